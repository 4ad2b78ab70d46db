from typing import Any

from rest_framework import serializers

from accounts.query import LARGEST
from accounts.strict import StrictSerializer
from jobs.models import Job, LogLine


class JobSerializer(serializers.ModelSerializer[Job]):
    """A job as API.md describes it."""

    user = serializers.CharField(source="user.username", default=None, read_only=True, allow_null=True)
    progress = serializers.JSONField(read_only=True, help_text="What is known while it runs; keys depend on the type.")
    result = serializers.JSONField(read_only=True, help_text="What it found or made, by type.")
    payload = serializers.JSONField(read_only=True, help_text="Its parameters; never a secret.")

    class Meta:
        model = Job
        fields = [
            "id", "type", "status", "priority", "trigger", "subject", "server", "repository", "plan", "user",
            "payload", "result", "progress", "warnings", "error", "cause", "advice", "created_at", "started_at",
            "completed_at", "cancel_requested_at", "attempts", "max_attempts", "not_before", "waits_for", "log_lines",
        ]  # fmt: skip
        read_only_fields = fields


class RunningSerializer(serializers.Serializer[None]):
    """As a list, of one page."""

    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = JobSerializer(many=True)


class LogLineSerializer(serializers.ModelSerializer[LogLine]):
    level = serializers.SerializerMethodField()

    class Meta:
        model = LogLine
        fields = ["id", "job", "server", "number", "attempt", "at", "level", "message"]
        read_only_fields = fields

    def to_representation(self, line: LogLine) -> dict[str, Any]:
        """Without the fields' own ways: a thousand lines are told at once."""
        return {
            "id": line.pk, "job": str(line.job_id), "server": line.server_id, "number": line.number,
            "attempt": line.attempt, "at": self.fields["at"].to_representation(line.at),
            "level": self.get_level(line), "message": line.message,
        }  # fmt: skip

    def get_level(self, line: LogLine) -> str:
        return LogLine.Level(line.level).name.lower()


class StartJobSerializer(StrictSerializer):
    type = serializers.CharField(max_length=40, help_text="A job type, as `server_test` or `index`.")
    subject = serializers.IntegerField(
        min_value=1, max_value=LARGEST, help_text="The id of what it works on: a server, a plan, an archive ..."
    )
    parameters = serializers.DictField(default=dict, help_text="What the type's form asks for.")
