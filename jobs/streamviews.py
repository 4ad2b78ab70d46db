"""The API's event streams: /api/sse/jobs, /api/sse/backups, /api/sse/logs and /api/logs/tail."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.viewsets import ViewSet

from accounts.access import Permission
from accounts.presence import Presence
from accounts.query import LARGEST, WholeField, refuse_empty
from jobs import streams
from jobs.models import LogLine
from jobs.outliving import Outliving
from jobs.starting import form_errors
from jobs.streams import Happening, Tail

LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID", int, OpenApiParameter.HEADER, description="The number of the last event that was heard."
)
OF_A_JOB = OpenApiParameter("job", OpenApiTypes.UUID, description="Of this job alone.")
OF_A_SERVER = OpenApiParameter("server", int, description="Of this server alone.")
AT_LEAST = OpenApiParameter(
    "level", str, description="Lines at least as grave.", enum=[level.name.lower() for level in LogLine.Level]
)


class EventStream(BaseRenderer):
    media_type = "text/event-stream"
    format = "events"

    def render(self, data: Any, *_: Any, **__: Any) -> bytes:
        raise NotImplementedError("A stream is no answer that is rendered.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one program listens to."""

    job: UUID | None = None
    server: int | None = None
    type: str = ""  # of the jobs; "": any
    level: int = 0  # of lines, at least
    passing: bool = False  # also what has no number

    def __call__(self, happening: Happening) -> bool:
        return (
            (self.job is None or happening.job == self.job)
            and (self.server is None or happening.server == self.server)
            and (not self.type or happening.type == self.type)
            and happening.level >= self.level
            and (self.passing or happening.number is not None)
        )


class WantedForm(forms.Form):
    job = forms.UUIDField(required=False)
    server = WholeField(required=False, min_value=1, max_value=LARGEST)
    after = forms.IntegerField(required=False, min_value=0, max_value=streams.LAST)

    def wanted(self) -> Wanted:
        return Wanted(self.cleaned_data["job"], self.cleaned_data["server"])


class WantedBackupsForm(WantedForm):
    def wanted(self) -> Wanted:
        return replace(super().wanted(), type="backup", passing=True)


class WantedLinesForm(WantedForm):
    level = forms.ChoiceField(required=False, choices=[(level.name.lower(), level.label) for level in LogLine.Level])

    def wanted(self) -> Wanted:
        least = self.cleaned_data["level"]
        return replace(super().wanted(), level=LogLine.Level[least.upper()] if least else 0)


class Stream(ViewSet):
    renderer_classes = (EventStream,)
    permissions: ClassVar[dict[str, Permission | None]] = {"list": Permission.BACKUP_VIEW}
    tail: ClassVar[Tail] = streams.JOBS
    event: ClassVar[str]
    form: ClassVar[type[WantedForm]] = WantedForm

    def answer(self, request: Request) -> StreamingHttpResponse:
        sent: dict[str, Any] = request.query_params.dict()
        if unknown := set(sent) - (set(self.form.base_fields) - {"after"}):
            raise ValidationError({name: ["There is no such filter here."] for name in sorted(unknown)})
        refuse_empty(request)
        form = self.form(sent | {"after": request.headers.get("Last-Event-ID", "")})
        if not form.is_valid():
            raise ValidationError(form_errors(form))
        # Nothing here may hold the request, which does not live as long.
        events = streams.listen(
            self.tail, self.event, form.wanted(), after=form.cleaned_data["after"],
            may_stay=partial(Presence.of(request).may, self.permissions["list"]),
        )  # fmt: skip
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return Outliving(events, content_type="text/event-stream", headers=headers)


def stream(example: str) -> dict[tuple[int, str], OpenApiResponse]:
    """The answer of a stream; `example` is what one event may look like."""
    shown = OpenApiExample("event", example, media_type="text/event-stream")
    return {(200, "text/event-stream"): OpenApiResponse(str, "Events, until the token ends.", [shown])}


SCOPE = '"job": "2f1c0c5e-7b0a-4c38-9d1f-0d3b6a3c9a11", "type": "backup", "server": 1, "plan": 1, "repository": 1'
A_CHANGE = f"""id: 42
event: job
data: {{{SCOPE}, "status": "running", "at": "2026-11-25T02:00:00Z", "attempts": 1, "error": "", "warnings": 0}}

"""
A_STEP = f"""event: backup
data: {{{SCOPE}, "status": "running", "at": "2026-11-25T02:00:05Z", "progress": {{"original": 73400320}}}}

"""
A_LINE = f"""id: 1042
event: log
data: {{{SCOPE}, "at": "2026-11-25T02:00:00Z", "number": 7, "attempt": 1, "level": "info", "message": "Logged in."}}

"""


class JobStream(Stream):
    event = "job"

    @extend_schema(
        summary="Listen to jobs", parameters=[LAST_EVENT_ID, OF_A_JOB, OF_A_SERVER], responses=stream(A_CHANGE)
    )
    def list(self, request: Request) -> StreamingHttpResponse:
        """Each change of a job's status, as it happens. A program that comes back reads on from what it heard last."""
        return self.answer(request)


class BackupStream(Stream):
    event = "backup"
    form = WantedBackupsForm

    @extend_schema(
        summary="Listen to backups", parameters=[LAST_EVENT_ID, OF_A_JOB, OF_A_SERVER], responses=stream(A_STEP)
    )
    def list(self, request: Request) -> StreamingHttpResponse:
        """The same of backups, and how far running ones are; that has no number, because the next one replaces it."""
        return self.answer(request)


class LogStream(Stream):
    permissions: ClassVar[dict[str, Permission | None]] = {"list": Permission.LOGS_VIEW}
    tail = streams.LOGS
    event = "log"
    form = WantedLinesForm

    @extend_schema(
        summary="Listen to logs", parameters=[LAST_EVENT_ID, OF_A_JOB, OF_A_SERVER, AT_LEAST], responses=stream(A_LINE)
    )
    def list(self, request: Request) -> StreamingHttpResponse:
        """Each line of each log, as it is written. A program that comes back reads on from what it heard last."""
        return self.answer(request)
