from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import transaction
from django.utils.translation import gettext_lazy
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import validate_time_zone
from accounts.strict import StrictModelSerializer, StrictSerializer
from backups import schedule
from backups.catalog import Item
from backups.forms import ALREADY_THERE, LIES_THERE, AccountForm, usual
from backups.models import (
    MOST_PROOF_FILES,
    Archive,
    Mount,
    Plan,
    Repository,
    RestoreTest,
    RetentionPolicy,
    Source,
    StoragePool,
)
from backups.notes import COMMENT_LENGTH
from backups.periodic import reschedule
from backups.runners.mount import DEFAULT_HOURS, MOST_HOURS
from backups.runners.proof import NEWEST, RANDOM
from backups.runners.restore import RestoreForm
from backups.schedule import InvalidSchedule
from backups.sources.base import SourceKind
from jobs.config import config
from jobs.models import Job
from jobs.starting import validated
from servers.models import Server

STAYS = gettext_lazy("A repository stays what and where it is: its archives are that server's, and lie there.")


class StoragePoolSerializer(StrictModelSerializer[StoragePool]):
    key_command = serializers.CharField(
        read_only=True, help_text="Run it at the account: lets us in. For a pool at an SSH account, as what follows."
    )
    fingerprint = serializers.CharField(read_only=True, help_text='Of the confirmed host key; "" before that.')
    fingerprint_seen = serializers.CharField(read_only=True, help_text="Of the host key that it showed last.")

    class Meta:
        model = StoragePool
        fields = [
            "id", "name", "path", "place", "address", "port", "username", "borg_command", "keys_by_hand", "public_key",
            "key_command", "fingerprint", "fingerprint_seen", "problem", "free_bytes", "total_bytes", "checked_at",
            "created_at",
        ]  # fmt: skip
        validators: ClassVar[list[Any]] = []  # that no other is there is said of the path
        read_only_fields = ["public_key", "problem", "free_bytes", "total_bytes", "checked_at", "created_at"]
        extra_kwargs = {
            "address": {"help_text": 'Of the SSH account; "": a folder on the worker\'s machine.'},
        }

    def to_internal_value(self, data: Any) -> Any:
        # Before the validators, which would take "/srv/borg/" for another folder than "/srv/borg".
        if isinstance(data, Mapping) and isinstance(path := data.get("path"), str):
            data = {**data, "path": path.strip().rstrip("/") or path}
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if self.instance is None:
            attrs.setdefault("place", settings.WORKER_PLACES[0])
        self._refuse_a_move(attrs)
        names = ("path", "address", "port", "username")
        pool = StoragePool(pk=self.instance.pk if self.instance else None)
        for name in names:
            setattr(pool, name, attrs.get(name, getattr(self.instance or pool, name)))
        try:
            pool.clean()
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.message_dict) from error
        if pool.same_place().exists():
            raise serializers.ValidationError({"path": str(ALREADY_THERE)})
        return attrs

    def _refuse_a_move(self, attrs: dict[str, Any]) -> None:
        if self.instance is None:
            return
        moved = {name for name in AccountForm.PLACE if attrs.get(name, now := getattr(self.instance, name)) != now}
        if moved and self.instance.repositories.exists():
            raise serializers.ValidationError(dict.fromkeys(moved, str(LIES_THERE)))
        if moved & {"address", "port"}:
            self.instance.host_key_seen = ""

    def validate_place(self, place: str) -> str:
        if place not in settings.WORKER_PLACES:
            raise serializers.ValidationError(f"WORKER_PLACES does not name “{place}”.")
        return place


class AccountHostKeySerializer(StrictSerializer):
    fingerprint = serializers.CharField(max_length=100, help_text="Exactly as `fingerprint_seen` shows it.")


class KitStoredSerializer(StrictSerializer):
    kit = serializers.CharField(max_length=12, help_text="The number of the kit, which is printed on it.")


class RepositorySerializer(StrictModelSerializer[Repository]):
    path = serializers.CharField(read_only=True, help_text="Its folder on the machine where it lies.")
    location = serializers.CharField(read_only=True, help_text="As borg has it: a path, or ssh://...")
    kit_stored_at = serializers.SerializerMethodField(
        help_text="When somebody said that its recovery kit is stored; null: nobody has, of the kit as it is now."
    )

    class Meta:
        model = Repository
        fields = [
            "id", "name", "pool", "server", "state", "borg_id", "path", "location", "server_key",
            "original_bytes", "compressed_bytes", "deduplicated_bytes", "measured_at", "damage", "frozen",
            "check_days", "verify_days", "checked_at", "verified_at", "compared_at", "deleted_at", "compacted_at",
            "kit_stored_at", "created_at",
        ]  # fmt: skip
        read_only_fields = [
            "state", "borg_id", "server_key",
            "original_bytes", "compressed_bytes", "deduplicated_bytes", "measured_at", "damage",
            "frozen", "checked_at", "verified_at", "compared_at", "deleted_at", "compacted_at", "created_at",
        ]  # fmt: skip

    def get_kit_stored_at(self, repository: Repository) -> datetime | None:
        return repository.kit_stored_at if repository.kit_is_stored else None

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        fixed = ("name", "pool", "server") if self.instance else ()
        if moved := [name for name in fixed if attrs.get(name, now := getattr(self.instance, name)) != now]:
            raise serializers.ValidationError(dict.fromkeys(moved, str(STAYS)))
        return attrs


class SourceSerializer(StrictModelSerializer[Source]):
    parameters = serializers.DictField(
        help_text="By kind; of `files`: paths, excludes, one_file_system, exclude_caches."
    )

    class Meta:
        model = Source
        fields = ["id", "name", "server", "kind", "parameters", "created_at"]
        read_only_fields = ["created_at"]

    def validate_kind(self, kind: str) -> str:
        if kind not in SourceKind.registry:
            raise serializers.ValidationError(f"There is no kind of source “{kind}”.")
        return kind

    def validate_server(self, server: Server) -> Server:
        if self.instance and server != self.instance.server and (plan := self.instance.plans.first()):
            raise serializers.ValidationError(f"The plan {plan.name} of {self.instance.server.name} saves this source.")
        return server

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        kind = attrs.get("kind") or (self.instance.kind if self.instance else "files")
        if "parameters" in attrs:
            try:
                attrs["parameters"] = validated(SourceKind.registry[kind].form, attrs["parameters"])
            except serializers.ValidationError as error:
                raise serializers.ValidationError({"parameters": error.detail}) from error
        return attrs


class PlanSerializer(StrictModelSerializer[Plan]):
    sources = serializers.PrimaryKeyRelatedField(
        queryset=Source.objects.all(), many=True, allow_empty=False, help_text="Of the plan's own server."
    )
    retention = serializers.PrimaryKeyRelatedField(
        queryset=RetentionPolicy.objects.all(), required=False, allow_null=True
    )
    time_zone = serializers.CharField(
        required=False,
        max_length=64,
        validators=[validate_time_zone],
        help_text="As Europe/Berlin; default: the settings', or yours.",
    )
    blackout = serializers.CharField(
        required=False, allow_blank=True, max_length=2000,
        help_text="Windows in which no run starts, one per line, as `mon-fri 08:00-18:00` or `22:00-02:00`.",
    )  # fmt: skip
    next_runs = serializers.SerializerMethodField(help_text="The next five, beginning with `next_run_at`.")

    class Meta:
        model = Plan
        fields = [
            "id", "name", "server", "repository", "sources", "retention", "enabled", "compression",
            "upload_kib_per_second", "schedule", "time_zone", "blackout", "spread_seconds", "next_run_at", "next_runs",
            "last_job", "last_good_at", "proof_days", "proof_files", "proof_due_at", "proved_at", "proof_failed",
            "created_at",
        ]  # fmt: skip
        read_only_fields = [
            "next_run_at", "last_job", "last_good_at", "proof_due_at", "proved_at", "proof_failed", "created_at",
        ]  # fmt: skip

    def get_next_runs(self, plan: Plan) -> list[datetime]:
        return schedule.upcoming(plan)

    def validate_schedule(self, cron: str) -> str:
        return in_words(schedule.checked_cron, cron) if cron else ""

    def validate_blackout(self, blackout: str) -> str:
        in_words(schedule.windows_of, blackout)
        return blackout

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        server = attrs.get("server") or (self.instance.server if self.instance else None)
        repository = attrs.get("repository") or (self.instance.repository if self.instance else None)
        if repository and server and repository.server_id != server.pk:
            raise serializers.ValidationError({"repository": ["This repository belongs to another server."]})
        sources = attrs.get("sources") or (self.instance.sources.all() if self.instance else [])
        if any(server and source.server_id != server.pk for source in sources):
            raise serializers.ValidationError({"sources": ["A source belongs to another server."]})
        return attrs

    @transaction.atomic
    def create(self, validated_data: dict[str, Any]) -> Plan:
        own = self.context["request"].user.time_zone
        zone = config.PLAN_TIME_ZONE or own or config.TIME_ZONE
        plan = super().create({**usual(), "time_zone": zone, **validated_data})
        reschedule(plan)
        return plan

    @transaction.atomic
    def update(self, instance: Plan, validated_data: dict[str, Any]) -> Plan:
        # As it is now: the scheduler and the workers write to it too.
        plan = super().update(Plan.objects.select_for_update().get(pk=instance.pk), validated_data)
        reschedule(plan)
        return plan


def in_words(check: Callable[[str], Any], text: str) -> Any:
    """What `check` makes of `text`; its sentence becomes one of the API's."""
    try:
        return check(text)
    except InvalidSchedule as error:
        raise serializers.ValidationError(str(error)) from error


class KeptSerializer(serializers.Serializer[None]):
    archive = serializers.IntegerField()
    name = serializers.CharField()
    taken_at = serializers.DateTimeField(help_text="By our own clock.")
    why = serializers.CharField(help_text="The rule and the how-manieth, as `daily #3`; or `pinned`, `last good` ...")


class GoingSerializer(serializers.Serializer[None]):
    archive = serializers.IntegerField()
    name = serializers.CharField()
    taken_at = serializers.DateTimeField()


class OutlookSerializer(serializers.Serializer[None]):
    """What there would be after some months if every run makes a good archive."""

    months = serializers.IntegerField()
    until = serializers.DateTimeField()
    count = serializers.IntegerField(help_text="With those that stay whatever the rules say.")
    times = serializers.ListField(child=serializers.DateTimeField(), help_text="Newest first.")


class RetentionSerializer(serializers.Serializer[dict[str, Any]]):
    refused = serializers.CharField(help_text="Why nothing may go now; empty: it may.")
    most_deletions = serializers.IntegerField()
    too_many = serializers.BooleanField(help_text="More would go than may at once: none goes.")
    going = GoingSerializer(many=True)
    kept = KeptSerializer(many=True)
    outlooks = OutlookSerializer(many=True)


class MountedSerializer(serializers.ModelSerializer[Mount]):
    class Meta:
        model = Mount
        fields = ["path", "machine", "expires_at"]
        read_only_fields = fields


class ArchiveSerializer(StrictModelSerializer[Archive]):
    mount = serializers.SerializerMethodField(help_text="Where it is mounted now, on which worker's machine; or null.")

    class Meta:
        model = Archive
        fields = [
            "id", "name", "borg_id", "repository", "server", "plan", "job", "start", "end", "duration",
            "original_bytes", "compressed_bytes", "deduplicated_bytes", "files", "warnings", "command_line",
            "suspicion", "quarantine", "vanished_at", "comment", "pinned", "mount", "indexed_at", "created_at",
        ]  # fmt: skip
        read_only_fields = [name for name in fields if name not in ("comment", "pinned")]
        extra_kwargs = {"comment": {"max_length": COMMENT_LENGTH}}

    @extend_schema_field(MountedSerializer(allow_null=True))
    def get_mount(self, archive: Archive) -> dict[str, Any] | None:
        mount = getattr(archive, "mount", None)
        return MountedSerializer(mount).data if mount and mount.mounted_at else None


class BackupSerializer(serializers.ModelSerializer[Job]):
    """A backup: its job, and the archive that it made."""

    archive = serializers.SerializerMethodField(help_text="The id of the archive, once it is made.")
    progress = serializers.JSONField(read_only=True)
    result = serializers.JSONField(read_only=True)

    class Meta:
        model = Job
        fields = [
            "id", "status", "trigger", "server", "repository", "plan", "archive", "progress", "result", "warnings",
            "error", "cause", "advice", "created_at", "started_at", "completed_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_archive(self, job: Job) -> int | None:
        return job.result.get("archive") if isinstance(job.result, dict) else None


class RunBackupSerializer(StrictSerializer):
    server_id = serializers.IntegerField()
    plan_id = serializers.IntegerField(required=False, help_text="Without it, every enabled plan of the server.")
    type = serializers.CharField(required=False, help_text="Only plans that save a source of this kind, as `files`.")


class FileSerializer(serializers.Serializer[Item]):
    """One entry of an archive's listing."""

    id = serializers.IntegerField(help_text="Its number, for download and restore.")
    name = serializers.CharField(source="text", help_text="What is not UTF-8 is spelled out.")
    kind = serializers.CharField(help_text="As in `ls -l`: d, -, l, p, c, b, s.")
    mode = serializers.CharField()
    owner = serializers.CharField()
    group = serializers.CharField()
    size = serializers.IntegerField()
    modified_at = serializers.DateTimeField(allow_null=True)
    link = serializers.CharField(source="link_text")
    healthy = serializers.BooleanField()


class FolderSerializer(serializers.Serializer[None]):
    path = serializers.CharField()
    count = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = FileSerializer(many=True)


class MountSerializer(StrictSerializer):
    hours = serializers.IntegerField(
        min_value=1, max_value=MOST_HOURS, default=DEFAULT_HOURS, help_text="Then it is unmounted, whoever is in it."
    )


class RestoreSerializer(StrictSerializer):
    paths = serializers.ListField(child=serializers.CharField(), required=False, help_text="None: everything.")
    entries = serializers.ListField(
        child=serializers.IntegerField(),
        required=False,
        help_text="Numbers from the listing, for names that are no text.",
    )
    server = serializers.IntegerField(
        required=False,
        allow_null=True,
        help_text="Another one than the archive's own: it gets the files as a tar, and neither passphrase nor key.",
    )
    where = serializers.ChoiceField(
        RestoreForm.WHERE,
        default="directory",
        help_text="`place`: where it came from; `beside`: there, as `<name>.restored-<time>`.",
    )
    directory = serializers.CharField(
        required=False, help_text="Below which the archive's folders are put; made if it does not exist."
    )
    existing = serializers.ChoiceField(
        RestoreForm.EXISTING,
        default="overwrite",
        help_text="What is there already. `both`: what is restored becomes `<name>.restored-<time>`.",
    )
    owners = serializers.BooleanField(
        default=True, help_text="As in the archive; otherwise all is the SSH user's, and nobody else may write to it."
    )
    verify = serializers.BooleanField(
        default=False, help_text="Read back what was restored, and compare each file's SHA-256 with the archive's."
    )
    dry_run = serializers.BooleanField(
        default=False, help_text="Change nothing: the job's result tells paths, collisions, warnings and room."
    )


class ImportRepositorySerializer(StrictSerializer):
    """An existing repository, in a storage pool or in a folder that becomes one."""

    server = serializers.IntegerField(help_text="Whose archives it holds.")
    pool = serializers.IntegerField(required=False, help_text="The storage pool in which its folder lies.")
    folder = serializers.CharField(required=False, help_text="Instead of `pool`: a path on the worker's machine.")
    name = serializers.CharField(help_text="Of its folder in there.")
    passphrase = serializers.CharField(
        required=False, allow_blank=True, trim_whitespace=False, write_only=True, help_text="Kept encrypted."
    )
    key = serializers.CharField(
        required=False, allow_blank=True, write_only=True, help_text="A keyfile repository's key, as borg exports it."
    )


class RestoreTestSerializer(serializers.ModelSerializer[RestoreTest]):
    """A restore test, without its evidence."""

    class Meta:
        model = RestoreTest
        fields = [
            "id", "plan", "server", "archive", "job", "name", "at", "held", "failure", "everything", "files", "bytes",
            "seconds",
        ]  # fmt: skip
        read_only_fields = fields
        extra_kwargs = {
            "name": {"help_text": "Of the archive, which may be gone by now."},
            "failure": {"help_text": 'Why it did not hold; "": it did.'},
            "everything": {"help_text": "Whether all files were restored; false: a sample."},
            "seconds": {"help_text": "That the extraction took."},
        }


class EvidenceSerializer(RestoreTestSerializer):
    class Meta(RestoreTestSerializer.Meta):
        fields = [*RestoreTestSerializer.Meta.fields, "evidence", "signature", "public_key"]
        read_only_fields = fields
        extra_kwargs = {
            **RestoreTestSerializer.Meta.extra_kwargs,
            "evidence": {"help_text": "JSON, as a text: exactly what was signed."},
            "signature": {"help_text": "Of the evidence: Ed25519, hexadecimal."},
            "public_key": {"help_text": "Hexadecimal."},
        }


class ProveSerializer(StrictSerializer):
    archive = serializers.ChoiceField(choices=[NEWEST, RANDOM], default=NEWEST, help_text="Which good one.")
    files = serializers.IntegerField(
        min_value=0, max_value=MOST_PROOF_FILES, required=False, help_text="0: all. Not sent: as the plan says."
    )
