"""Job types and the one place that decides how a job ends.

A job type is a subclass of JobRunner in some app's `runners/` folder: it names itself, says what
it needs, and does its work in `run`. It raises sentences; it never sets a status.
"""

from __future__ import annotations

import logging
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar, cast

from django import forms
from django.db import DatabaseError, models, transaction
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from accounts import audit, chain
from accounts.access import Permission
from accounts.models import User
from jobs import live, queue
from jobs.config import config
from jobs.errors import Cancelled, Failure, Superseded
from jobs.log import JobLog, Pulse, insist, storable, storable_values
from jobs.models import Job, JobEvent

logger = logging.getLogger(__name__)

Subject = TypeVar("Subject", bound=models.Model)
ModelClass = type[models.Model]
FormClass = type[forms.Form]
RunnerClass = type["JobRunner[Any]"]


class Refused(Exception):
    """The job cannot be started now; the sentence says why."""

    def __init__(self, sentence: str, *, job: Job | None = None) -> None:
        super().__init__(sentence)
        self.job = job  # the one that stands in the way


class JobRunner(ABC, Generic[Subject]):
    """One type of job. `Subject` is the model that it works on: a plan, a server, an archive ..."""

    type: ClassVar[str]
    label: ClassVar[str | Promise]
    model: ClassVar[ModelClass]
    permission: ClassVar[Permission]
    form: ClassVar[FormClass] = forms.Form  # the parameters that a person or a program may give
    icon: ClassVar[str] = "player-play"
    priority: ClassVar[Job.Priority] = Job.Priority.NORMAL
    has_own_page: ClassVar[bool] = False  # which asks for what jobs/start.html cannot: it is started there only
    several_at_once: ClassVar[bool] = False  # of one subject; otherwise a second one is refused
    max_attempts: ClassVar[int] = 1  # in all, when it fails with what may pass
    idle_limit_seconds: ClassVar[int] = 30 * 60

    registry: ClassVar[dict[str, RunnerClass]] = {}
    do_not_call_in_templates: ClassVar[bool] = True  # a template that gets the class wants its label

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "type" in vars(cls):
            cls.registry[cls.type] = cls

    def __init__(self, job: Job) -> None:
        self.job = job
        self.log = JobLog(job, idle_limit_seconds=self.idle_limit_seconds)

    # --- What a subclass says ------------------------------------------------------------------

    @abstractmethod
    def run(self) -> dict[str, Any]:
        """Do it and return the result for the row. Raises Failure with a sentence."""

    @classmethod
    def holds(cls, job: Job) -> str | None:
        """What no other job may have while this one runs."""
        return None

    @classmethod
    def visible_to(cls, user: User) -> models.QuerySet[Any]:
        """Those subjects of which this person knows."""
        found: models.QuerySet[Any] = cls.model._default_manager.for_user(user)  # type: ignore[attr-defined]
        return found

    @classmethod
    def scope(cls, subject: Subject) -> dict[str, Any]:
        """The columns of the job that say whose it is: server, repository, plan, place."""
        return {}

    @classmethod
    def refuse(cls, subject: Subject) -> None:
        """Raise Refused when this cannot be started on `subject` now."""

    @classmethod
    def audited(cls, subject: Subject, job: Job) -> dict[str, Any]:
        """What the audit trail says of a job that somebody starts; no secrets."""
        return {"parameters": job.payload} if job.payload else {}

    @classmethod
    def ended(cls, job: Job) -> None:
        """Called in the transaction that ends the job, by whoever ends it: keep what others read of it.

        Not called for an attempt that another one follows.
        """

    # --- Starting one --------------------------------------------------------------------------

    @classmethod
    def enqueue(
        cls,
        subject: Subject,
        *,
        user: User | None = None,
        trigger: Job.Trigger = Job.Trigger.USER,
        **parameters: Any,
    ) -> Job:
        """Write the job's row and ring for it when the transaction commits. Raises Refused."""
        [answer] = cls.enqueue_all([subject], user=user, trigger=trigger, **parameters)
        if isinstance(answer, Refused):
            raise answer
        return answer

    @classmethod
    def enqueue_all(
        cls,
        subjects: Sequence[Subject],
        *,
        user: User | None = None,
        trigger: Job.Trigger = Job.Trigger.USER,
        **parameters: Any,
    ) -> list[Job | Refused]:
        """The same for many different ones, in a few queries: of each its job, or why there is none."""
        answers: list[Job | Refused] = []
        with transaction.atomic():
            # The locks make "is there one already?" and the insert one step.
            rows = cls.model._default_manager.select_for_update().filter(pk__in=[subject.pk for subject in subjects])
            locked = set(rows.order_by("pk").values_list("pk", flat=True))
            others = {} if cls.several_at_once else cls._unfinished(subjects)
            for subject in subjects:
                try:
                    if subject.pk not in locked:
                        raise Refused(_("It was deleted in the meantime."))
                    cls.refuse(subject)
                    if other := others.get(subject_key(subject)):
                        names = {"job": cls.label, "status": other.get_status_display()}
                        raise Refused(_("%(job)s is already %(status)s here.") % names, job=other)
                    answers.append(cls._job(subject, user=user, trigger=trigger, payload=parameters))
                except Refused as refusal:
                    answers.append(refusal)
            jobs = Job.objects.bulk_create(answer for answer in answers if isinstance(answer, Job))
            JobEvent.objects.bulk_create(JobEvent(job=job, status=job.status) for job in jobs)
            queue.ring(*jobs)
            transaction.on_commit(lambda: _announce(jobs))
            if trigger in Job.BY_SOMEBODY:
                pairs = zip(subjects, answers, strict=True)
                cls._audit([(subject, job) for subject, job in pairs if isinstance(job, Job)])
        return answers

    @classmethod
    def _audit(cls, started: list[tuple[Subject, Job]]) -> None:
        if started:
            chain.append(*(
                audit.entry_of(
                    f"{cls.type}.started", user=job.user, target=audit.name_of(subject),
                    detail={"job": job.pk, **cls.audited(subject, job)},
                )
                for subject, job in started
            ))  # fmt: skip

    @classmethod
    def _unfinished(cls, subjects: Sequence[Subject]) -> dict[str, Job]:
        """What waits or runs already, by its subject."""
        keys = [subject_key(subject) for subject in subjects]
        return {job.subject: job for job in Job.objects.unfinished().filter(type=cls.type, subject__in=keys)}

    @classmethod
    def _job(cls, subject: Subject, **values: Any) -> Job:
        return Job(
            type=cls.type, subject=subject_key(subject), priority=cls.priority, max_attempts=cls.max_attempts,
            **cls.scope(subject), **values,
        )  # fmt: skip

    # --- Doing it ------------------------------------------------------------------------------

    @cached_property
    def subject(self) -> Subject:
        found = self.model._default_manager.filter(pk=self.job.subject.partition(":")[2]).first()
        if found is None:
            raise Failure(f"The {self.model._meta.verbose_name} that this job was for has been deleted.")
        return cast("Subject", found)

    def perform(self) -> None:
        """Run the claimed job to its end and store the outcome."""
        live.announce(self.job, self.job.status)
        with Pulse(self.log):
            outcome = self._outcome()
        insist(self.log.flush)
        if outcome and insist(lambda: end(self.job, **outcome)):
            live.announce(self.job, self.job.status)

    def _outcome(self) -> dict[str, Any] | None:
        """Run, and say how it ended; None when the row already says something else."""
        try:
            result = self.run()
        except Superseded:
            logger.warning("Job %s was ended by somebody else while it ran here.", self.job.pk)
            return None
        except Cancelled:
            self.log.info("Cancelled.")
            return {"status": Job.Status.CANCELLED, "warnings": self.log.warnings}
        except Failure as error:
            return self._failed(str(error), error.cause, error.own_advice, error.result, may_pass=error.may_pass)
        except Exception as error:
            logger.exception("Job %s", self.job.pk)
            sentence = f"phpBorg itself made a mistake ({type(error).__name__})."
            return self._failed(sentence, Failure.cause, "The worker's log has the details; please report it.")
        return {"status": Job.Status.COMPLETED, "result": storable_values(result), "warnings": self.log.warnings}

    def _failed(
        self, sentence: str, cause: str, advice: str, result: dict[str, Any] | None = None, *, may_pass: bool = False
    ) -> dict[str, Any]:
        self.log.error(sentence)
        if may_pass and self.job.may_be_tried_again:
            self.log.info(next_attempt(self.job))
        return {
            "status": Job.Status.FAILED, "error": storable(sentence), "cause": cause, "advice": advice,
            "warnings": self.log.warnings, "result": storable_values(result), "may_pass": may_pass,
        }  # fmt: skip


def end(job: Job, *, may_pass: bool = False, **outcome: Any) -> bool:
    """Store how this run of `job` ended; False when somebody else ended it before.

    A failure that may pass puts the job back while it has attempts left, unless somebody asked for a cancel.
    """
    with transaction.atomic():
        if may_pass and job.may_be_tried_again:
            if _put_back(job, **outcome):
                job.refresh_from_db()
                return True
            outcome |= {"status": Job.Status.CANCELLED, "error": "", "cause": "", "advice": ""}
        if not job.finish(**outcome):
            return False
        job.refresh_from_db()
        if runner := JobRunner.registry.get(job.type):
            _tell(runner, job)
    return True


def cancel(job: Job, *, by_somebody: bool = False) -> bool:
    """Ask for an end of `job`, which is its end if nobody has started it; False when it had ended before.

    What a person asks for is in the audit trail.
    """
    with transaction.atomic():
        if not job.request_cancel():
            return False
        job.refresh_from_db()
        if job.has_ended and (runner := JobRunner.registry.get(job.type)):
            _tell(runner, job)
        if by_somebody:
            _record_act("cancelled", job)
    return True


def _record_act(action: str, job: Job) -> None:
    """To the audit trail: somebody did that to a job."""
    about = job.plan or job.repository or job.server
    detail = {"job": job.pk, "subject": job.subject}
    audit.record(f"{job.type}.{action}", target=audit.name_of(about) if about else job.subject, detail=detail)


def _tell(runner: RunnerClass, job: Job) -> None:
    """What a runner does at the end of a job must not keep the job from ending."""
    try:
        with transaction.atomic():
            runner.ended(job)
    except DatabaseError:
        raise  # all of it is tried again
    except Exception:
        logger.exception("Job %s (%s) has ended, but what follows from it went wrong.", job.pk, job.type)


def _put_back(job: Job, *, status: Job.Status, **why: Any) -> bool:
    return job.put_back(not_before=timezone.now() + timedelta(seconds=pause_after(job.attempts)), **why)


def pause_after(attempts: int) -> int:
    """Seconds between the last of so many attempts and the next one."""
    pauses: list[int] = config.JOB_RETRY_SECONDS
    return pauses[min(attempts, len(pauses)) - 1]


def next_attempt(job: Job) -> str:
    """What the log says at the end of an attempt that another one follows."""
    return (
        f"This may pass: attempt {job.attempts + 1} of {job.max_attempts} follows in {pause_after(job.attempts)} "
        "seconds, unless somebody cancels the job."
    )


def retry_of(job: Job, *, user: User | None, trigger: Job.Trigger) -> Job:
    """Start again what `job` did, as a new job with the same parameters. Raises Refused."""
    if not job.has_ended:
        raise Refused(_("The job has not ended yet."), job=job)
    runner = JobRunner.registry.get(job.type)
    if runner is None:
        raise Refused(_("This phpBorg does not know the job type “%(type)s”.") % {"type": job.type})
    subject = runner.model._default_manager.filter(pk=job.subject.partition(":")[2] or None).first()
    if subject is None:
        raise Refused(_("What the job was for has been deleted."))
    return runner.enqueue(subject, user=user, trigger=trigger, **job.payload)


def try_now(job: Job) -> bool:
    """Somebody wants the next attempt without its pause; False when the job waits for none."""
    with transaction.atomic():
        if not job.hurry():
            return False
        job.refresh_from_db()
        queue.ring(job)
        _record_act("hurried", job)
    live.announce(job, job.status)
    return True


def _announce(jobs: Sequence[Job]) -> None:
    for job in jobs:
        live.announce(job, job.status)


def subject_key(subject: models.Model) -> str:
    return f"{subject._meta.model_name}:{subject.pk}"


def perform(job_id: str) -> None:
    """What rq calls in a worker: claim the job, do it, ring for whoever waited."""
    job = insist(lambda: Job.objects.filter(pk=job_id).first())
    if job is None or job.status != Job.Status.PENDING:
        return
    runner_class = JobRunner.registry.get(job.type)
    if runner_class is None:
        _fail_unknown(job)
        return
    hold = runner_class.holds(job)
    if not insist(lambda: job.claim(worker_name(), holds=hold)):
        return
    try:
        runner_class(job).perform()
    finally:
        if hold:
            insist(lambda: queue.ring_next(hold))


def worker_name(pid: int | None = None) -> str:
    """Who does a job: the process on its machine."""
    return f"{socket.gethostname()}:{pid or os.getpid()}"


def _fail_unknown(job: Job) -> None:
    if job.claim(worker_name(), holds=None):
        end(job, status=Job.Status.FAILED, error=f"This worker does not know the job type “{job.type}”.")
