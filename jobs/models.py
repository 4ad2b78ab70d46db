from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission, can
from accounts.addresses import page_of
from accounts.lists import with_names
from accounts.models import User

if TYPE_CHECKING:
    from datetime import datetime


class JobQuerySet(models.QuerySet["Job"]):
    def for_user(self, user: User | AnonymousUser) -> Self:
        return self if can(user, Permission.BACKUP_VIEW) else self.none()

    def pending(self) -> Self:
        return self.filter(status=Job.Status.PENDING)

    def running(self) -> Self:
        return self.filter(status=Job.Status.RUNNING)

    def unfinished(self) -> Self:
        return self.filter(status__in=(Job.Status.PENDING, Job.Status.RUNNING))

    def due(self) -> Self:
        """Pending jobs that a worker may take now: not those that wait for their next attempt."""
        return self.pending().filter(Q(not_before=None) | Q(not_before__lte=timezone.now()))

    def with_scope(self) -> Self:
        """What they belong to, in one query."""
        return self.select_related("server", "repository", "plan", "user")

    def with_names(self) -> Self:
        """The same for lists, with no more of it than they show."""
        return with_names(self, server=["name"], repository=["name"], plan=["name"], user=["username"])


class Job(models.Model):
    """One execution of one runner. The row is the truth; a message in Redis only rings for it."""

    class Status(models.TextChoices):
        PENDING = "pending", _("waiting")
        RUNNING = "running", _("running")
        COMPLETED = "completed", _("completed")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    class Trigger(models.TextChoices):
        USER = "user", _("a person")
        API = "api", _("the API")
        SCHEDULE = "schedule", _("the schedule")
        RETRY = "retry", _("a retry")
        SYSTEM = "system", _("phpBorg itself")

    class Priority(models.IntegerChoices):
        HIGH = 0, _("high")
        NORMAL = 10, _("normal")
        LOW = 20, _("low")

    FINAL: ClassVar[frozenset[str]] = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
    BY_SOMEBODY: ClassVar[frozenset[str]] = frozenset({Trigger.USER, Trigger.API, Trigger.RETRY})
    # Those that may have one: of an attempt that failed, the others were put back for.
    WITH_ERROR: ClassVar[tuple[str, ...]] = (Status.FAILED, Status.CANCELLED, Status.PENDING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    type = models.CharField(max_length=40)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, default=Priority.NORMAL)
    place = models.CharField(max_length=40, default="default")  # whose workers can do it
    trigger = models.CharField(max_length=10, choices=Trigger.choices, default=Trigger.USER)

    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="jobs")
    server = models.ForeignKey("servers.Server", models.CASCADE, null=True, related_name="jobs")
    repository = models.ForeignKey("backups.Repository", models.CASCADE, null=True, related_name="jobs")
    plan = models.ForeignKey("backups.Plan", models.SET_NULL, null=True, related_name="jobs")
    subject = models.CharField(max_length=60, blank=True)  # what the runner works on, as "plan:7"

    payload: models.JSONField[Any, Any] = models.JSONField(default=dict)
    result: models.JSONField[Any, Any] = models.JSONField(null=True)
    progress: models.JSONField[Any, Any] = models.JSONField(default=dict)
    # What any of its attempts set out to make, as names of archives: what is found later is known by it.
    made: models.JSONField[Any, Any] = models.JSONField(default=list)
    warnings = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    cause = models.CharField(max_length=20, blank=True)
    advice = models.TextField(blank=True)

    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)

    attempts = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=1)
    not_before = models.DateTimeField(null=True)  # a pending job that is tried again waits until then
    worker = models.CharField(max_length=200, blank=True)
    # What nobody else may have while this runs, as "repository:7"; unique, so the database decides.
    holds = models.CharField(max_length=60, null=True, unique=True)  # noqa: DJ001  # NULLs may repeat, "" may not
    waits_for = models.CharField(max_length=60, blank=True)  # the `holds` of the job that goes first
    log_lines = models.PositiveIntegerField(default=0)  # the number of the newest line
    # Of a command that runs detached on a server: up to which byte of its journal the log has it, over all attempts.
    journal_read = models.BigIntegerField(default=0)

    objects = JobQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="job_newest"),
            models.Index(fields=["status", "priority", "created_at"], name="job_by_status"),
            # The newest of each, with the id, so that a page of them is read from the index (accounts/paging.py).
            models.Index(fields=["status", "-created_at", "-id"], name="job_newest_by_status"),
            models.Index(fields=["type", "-created_at", "-id"], name="job_newest_by_type"),
            models.Index(fields=["server", "-created_at", "-id"], name="job_newest_by_server"),
            models.Index(fields=["plan", "-created_at", "-id"], name="job_newest_by_plan"),
            models.Index(fields=["repository", "-created_at", "-id"], name="job_newest_by_repository"),
            models.Index(fields=["type", "-completed_at", "-id"], name="job_by_end"),
            models.Index(fields=["repository", "status", "created_at"], name="job_by_repository"),
            models.Index(fields=["type", "subject", "status", "-created_at"], name="job_by_subject"),
            models.Index(fields=["waits_for", "priority", "created_at"], name="job_by_waits_for"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"

    def get_absolute_url(self) -> str:
        return page_of("job", self.pk)

    # Django's own put every choice into the person's language, to show one of them; a list shows a hundred.
    def get_status_display(self) -> str:  # type: ignore[no-redef]
        return str(self.Status(self.status).label)

    def get_trigger_display(self) -> str:  # type: ignore[no-redef]
        return str(self.Trigger(self.trigger).label)

    @property
    def has_ended(self) -> bool:
        return self.status in self.FINAL

    @property
    def queue(self) -> str:
        return f"{self.place}.{self.get_priority_level()}"

    def get_priority_level(self) -> str:
        return self.Priority(self.priority).name.lower()

    @property
    def seconds(self) -> float | None:
        """How long the job has run, or ran; None before it starts."""
        if self.started_at is None:
            return None
        return ((self.completed_at or timezone.now()) - self.started_at).total_seconds()

    @property
    def is_tried_again(self) -> bool:
        """Whether it has failed, and waits for its next attempt."""
        return self.status == self.Status.PENDING and self.not_before is not None

    @property
    def may_be_tried_again(self) -> bool:
        return self.attempts < self.max_attempts

    @property
    def holder(self) -> Job | None:
        """The job that this one waits for."""
        return Job.objects.filter(holds=self.waits_for).first() if self.waits_for else None

    # --- Changes of state: each is one UPDATE whose WHERE says what must still be true -----------

    def claim(self, worker: str, *, holds: str | None) -> bool:
        """Take the job, and what it holds, for this worker; False when somebody else has either, or it is not due."""
        now = timezone.now()
        try:
            with transaction.atomic():
                won = Job.objects.due().filter(pk=self.pk).update(
                    status=self.Status.RUNNING, holds=holds, worker=worker, waits_for="", not_before=None,
                    started_at=now, heartbeat_at=now, attempts=F("attempts") + 1, progress={},
                    error="", cause="", advice="", result=None, warnings=0,
                )  # fmt: skip
                if won:
                    JobEvent.note(self.pk, self.Status.RUNNING)
        except IntegrityError:
            Job.objects.pending().filter(pk=self.pk).update(waits_for=holds)
            if Job.objects.filter(holds=holds).exists():
                return False
            return self.claim(worker, holds=holds)  # the holder has just ended, and rang for nobody yet
        self.refresh_from_db()
        return bool(won)

    def beat(self, **changes: Any) -> tuple[bool, datetime | None]:
        """Store `changes` with a fresh heartbeat: (is this run still the one that counts, cancel asked at)."""
        mine = self._this_run()
        if not mine.update(heartbeat_at=timezone.now(), **changes):
            return False, None
        return True, mine.values_list("cancel_requested_at", flat=True).first()

    def finish(self, status: Status, **outcome: Any) -> bool:
        """End this run; False when it was already ended by somebody else."""
        with transaction.atomic():
            ended = self._this_run().update(
                status=status, holds=None, completed_at=timezone.now(), cancel_requested_at=None, **outcome
            )
            if ended:
                JobEvent.note(self.pk, status)
        return bool(ended)

    def put_back(self, *, not_before: datetime, **why: Any) -> bool:
        """End this run, and wait for the next attempt; False when it was ended by somebody else, or a cancel asked."""
        unless_cancelled = self._this_run().filter(cancel_requested_at=None)
        with transaction.atomic():
            back = unless_cancelled.update(
                status=self.Status.PENDING, holds=None, not_before=not_before, started_at=None, heartbeat_at=None,
                progress={}, **why,
            )  # fmt: skip
            if back:
                JobEvent.note(self.pk, self.Status.PENDING)
        return bool(back)

    def hurry(self) -> bool:
        """Make the next attempt due now; False when the job waits for none."""
        return bool(Job.objects.pending().filter(pk=self.pk).exclude(not_before=None).update(not_before=None))

    def _this_run(self) -> JobQuerySet:
        return Job.objects.running().filter(pk=self.pk, attempts=self.attempts)

    def request_cancel(self) -> bool:
        """Ask for an end: at once if nobody has started, by a mark for the runner otherwise; False if ended."""
        now = timezone.now()
        me = Job.objects.filter(pk=self.pk)
        with transaction.atomic():
            if me.pending().update(status=self.Status.CANCELLED, completed_at=now, waits_for="", not_before=None):
                JobEvent.note(self.pk, self.Status.CANCELLED)
                return True
        return bool(me.running().filter(cancel_requested_at=None).update(cancel_requested_at=now)) or bool(
            me.running().exists()
        )


class JobEvent(models.Model):
    """That a job's status changed: written with it, so that a program that was away reads on from its number."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="events")
    status = models.CharField(max_length=10, choices=Job.Status.choices)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.job_id} {self.status}"

    @classmethod
    def note(cls, job_id: uuid.UUID, status: str) -> None:
        cls.objects.create(job_id=job_id, status=status)


class LogLineQuerySet(models.QuerySet["LogLine"]):
    def for_user(self, user: User | AnonymousUser) -> Self:
        return self if can(user, Permission.LOGS_VIEW) else self.none()

    def after(self, number: int) -> Self:
        return self.filter(number__gt=number).order_by("number")


class LogLine(models.Model):
    class Level(models.IntegerChoices):
        DEBUG = 10, _("debug")
        INFO = 20, _("info")
        WARNING = 30, _("warning")
        ERROR = 40, _("error")

    job = models.ForeignKey(Job, models.CASCADE, related_name="lines", db_index=False)  # log_line_by_job
    # The job's own, so that a server's lines are found by an index.
    server = models.ForeignKey("servers.Server", models.CASCADE, null=True, related_name="+")
    number = models.PositiveIntegerField()  # from 1, without gaps but for what the cap left out
    attempt = models.PositiveSmallIntegerField(default=1)
    at = models.DateTimeField()
    level = models.PositiveSmallIntegerField(choices=Level.choices, default=Level.INFO)
    message = models.TextField()

    objects = LogLineQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["job", "number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="log_line_of_job")]
        indexes = [
            models.Index(fields=["level", "-id"], name="log_line_by_level"),
            models.Index(fields=["job", "-id"], name="log_line_by_job"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S} {self.get_level_display()} {self.message}"
