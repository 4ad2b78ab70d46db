"""What has been in the year of a made-up fleet (phpborg/fleet.py): jobs, their events, archives and logs."""

import random
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import add
from typing import Any
from uuid import UUID

from accounts.models import User
from backups import tally
from backups.models import Archive, Plan, Repository, archive_prefix
from backups.runners.create import STAMP
from jobs.models import Job, JobEvent, LogLine
from jobs.periodic import EVENTS_KEPT
from phpborg.bulk import Heap, fields_of, prepared_by
from servers.models import Server

Status, Level = Job.Status, LogLine.Level

SPAN = timedelta(days=365)
LOGGED = 0.25  # the newest share of the jobs still has its log: 90 days of the year
TURNS = ("backup", "index", "backup", "check", "backup", "index", "backup", "prune", "backup", "index")  # of a server
BUSY_SHARE = 0.02  # of all jobs are one server's
FAILED, CANCELLED, SUSPICIOUS, WARNED = 0.025, 0.005, 0.003, 0.03
LONG_LOG = 10_000  # lines of one job
WARNINGS = 10  # lines of a job that has them
SUSPICION = "It has less than half of what the one before it had."
FAILURES = (
    ("network", "The server did not answer within 30 seconds."),
    ("source", "The path /srv/data is not there."),
    ("repository", "Another borg process has held the lock for 12 minutes."),
)
STEPS = (
    (Level.INFO, "A /srv/data/{name}/{number}.dat"),
    (Level.INFO, "M /home/{name}/mail/cur/{number}"),
    (Level.DEBUG, "remote: {number} chunks are known already"),
    (Level.INFO, "U /srv/data/{name}/{number}.dat"),
)
DENIED = "/srv/data/{name}/{number}.key: open: Permission denied"


@dataclass(frozen=True)
class Things:
    """Of the server with a number: itself, its repository, its plan."""

    servers: list[Server]
    repositories: list[Repository]
    plans: list[Plan]
    people: list[User]


@dataclass
class Kept:
    """What a plan and its repository keep of the jobs that went by."""

    of_plan: dict[str, Any] = field(default_factory=dict)
    sums: tuple[int, ...] = (0, 0, 0, 0)  # of archives: original, compressed, deduplicated bytes; how many


@dataclass(frozen=True)
class Logged:
    """A job whose log is still there."""

    job: UUID
    server: Server
    lines: int
    warnings: int
    error: str
    began_at: datetime
    ended_at: datetime


class Past:
    def __init__(self, jobs: int, archives: int, lines: int, now: datetime, chance: random.Random) -> None:
        self.jobs, self.archives, self.lines = jobs, archives, lines
        self.now = now
        self._chance = chance
        self.hours: dict[datetime, Counter[str]] = {}
        self.logged: list[Logged] = []
        self._good = 0  # backups so far, which is the id of the newest one's archive

    # --- What will have been ----------------------------------------------------------------------

    def foresee(self, servers: int) -> None:
        """Of each job, oldest first: whose it is, its type, how it ended; and which archives are still there."""
        self.kept = [Kept() for _ in range(servers)]
        running, pending = servers // 100 + 1, servers // 20 + 1
        self.ended = max(0, self.jobs - running - pending)
        self.statuses = [self._ending() for _ in range(self.ended)] + [Status.RUNNING] * running
        self.statuses += [Status.PENDING] * (self.jobs - len(self.statuses))
        self.server_of = array("I", self._turns(servers))
        turns: Counter[int] = Counter()
        self.types = []
        for server in self.server_of:
            self.types.append(TURNS[turns[server] % len(TURNS)])
            turns[server] += 1
        good = sum(map(self._is_good, range(self.jobs)))
        self.archives_missing = max(0, self.archives - good)
        self._pruned = good - self.archives
        self._first_logged = min(int(self.jobs * (1 - LOGGED)), self.ended - 1)

    def _turns(self, servers: int) -> Iterator[int]:
        order = self._chance.sample(range(servers), servers)
        for number in range(self.jobs):
            is_busy = self._chance.random() < BUSY_SHARE and number < self.ended
            yield 0 if is_busy else order[number % servers]

    def _ending(self) -> Job.Status:
        draw = self._chance.random()
        return Status.FAILED if draw < FAILED else Status.CANCELLED if draw < FAILED + CANCELLED else Status.COMPLETED

    def _is_good(self, number: int) -> bool:
        return self.types[number] == "backup" and self.statuses[number] == Status.COMPLETED

    def _asked_at(self, number: int) -> datetime:
        return self.now - SPAN + SPAN * ((number + 0.5) / self.jobs)

    def _lines_of(self, number: int) -> int:
        """How many lines its log still has: one has a long one, the others share the rest."""
        if not self._first_logged <= number < self.ended:
            return 0
        long, others = min(LONG_LOG, self.lines // 2), self.ended - 1 - self._first_logged
        if number == self.ended - 1:
            return long if others else self.lines
        rest, place = self.lines - long, number - self._first_logged
        return rest * (place + 1) // others - rest * place // others

    # --- Jobs, with their events and archives -------------------------------------------------------

    def make_jobs(self, things: Things) -> None:
        self._things = things
        with (
            Heap(Job, "id", "type", "subject", "status", "priority", "trigger", "user", "server", "repository", "plan",
                 "result", "warnings", "error", "cause", "created_at", "started_at", "completed_at", "heartbeat_at",
                 "attempts", "max_attempts", "worker", "holds", "log_lines") as self._rows,
            Heap(JobEvent, "job", "status", "at") as self._events,
            Heap(Archive, "id", "repository", "server", "plan", "job", "name", "borg_id", "start", "taken_at", "end",
                 "duration", "original_bytes", "compressed_bytes", "deduplicated_bytes", "files", "warnings",
                 "command_line", "suspicion", "pinned", "indexed_at", "created_at") as self._archives,
        ):  # fmt: skip
            for number in range(self.jobs):
                self._make_job(number)

    def _make_job(self, number: int) -> None:
        whose, status = self.server_of[number], self.statuses[number]
        job = self._job(number)
        if self._is_good(number):
            self._make_archive(job, whose)
        plan, repository = self._things.plans[whose].pk, self._things.repositories[whose].pk
        subjects = {"index": f"archive:{max(1, self._good)}", "check": f"repository:{repository}"}
        self._rows.add(
            job.pk, job.type, subjects.get(job.type, f"plan:{plan}"), status, job.priority, job.trigger, job.user_id,
            self._things.servers[whose].pk, repository, None if job.type == "check" else plan, job.result,
            job.warnings, job.error, job.cause, job.created_at, job.started_at, job.completed_at, job.heartbeat_at,
            job.attempts, 3, job.worker, job.holds, job.log_lines,
        )  # fmt: skip
        self._note(job)
        if job.type == "backup":
            self._keep(job, whose)
        if job.type == "prune" and job.status == Status.COMPLETED:
            self.kept[whose].of_plan["tidied_at"] = job.completed_at
        if job.log_lines:
            assert job.started_at
            assert job.completed_at
            server = self._things.servers[whose]
            self.logged.append(
                Logged(job.pk, server, job.log_lines, job.warnings, job.error, job.started_at, job.completed_at)
            )

    def _job(self, number: int) -> Job:
        status, asked_at = self.statuses[number], self._asked_at(number)
        job = Job(
            id=UUID(int=self._chance.getrandbits(128), version=4), type=self.types[number], status=status,
            created_at=asked_at, log_lines=self._lines_of(number), trigger=Job.Trigger.SCHEDULE,
        )  # fmt: skip
        if job.type == "index":
            job.priority, job.trigger = Job.Priority.LOW, Job.Trigger.SYSTEM
        elif (draw := self._chance.random()) < 0.04:
            job.trigger = Job.Trigger.API if draw < 0.01 else Job.Trigger.USER
            job.user_id = self._chance.choice(self._things.people).pk
        if status != Status.PENDING:
            job.attempts, job.worker = 1, f"worker-{number % 50:02}:{1000 + number % 50}"
            job.started_at = asked_at + min(timedelta(seconds=self._chance.uniform(1, 30)), (self.now - asked_at) / 3)
        if status == Status.RUNNING:
            job.heartbeat_at, job.holds = self.now, f"repository:{self._things.repositories[self.server_of[number]].pk}"
        if status == Status.FAILED:
            job.cause, job.error = self._chance.choice(FAILURES)
        if job.has_ended:
            assert job.started_at
            took = timedelta(seconds=self._chance.uniform(20, 900))
            job.completed_at = job.heartbeat_at = job.started_at + min(took, (self.now - job.started_at) / 2)
        if status == Status.COMPLETED:
            job.result, job.warnings = {}, WARNINGS if self._chance.random() < WARNED else 0
        return job

    def _note(self, job: Job) -> None:
        if job.created_at < self.now - EVENTS_KEPT:
            return
        happened = [(Status.PENDING, job.created_at), (Status.RUNNING, job.started_at), (job.status, job.completed_at)]
        for status, at in happened:
            if at:
                self._events.add(job.pk, status, at)

    def _make_archive(self, job: Job, whose: int) -> None:
        """What a good backup made; only the newest of these archives are still there."""
        self._good += 1
        plan, chance = self._things.plans[whose], self._chance
        original = int(10**9 * (1 + whose % 200) * chance.uniform(0.9, 1.1))
        compressed, added = int(original * 0.6), int(original * chance.uniform(0.001, 0.01))
        name, borg_id = f"{archive_prefix(plan)}-{job.started_at:{STAMP}}", f"{chance.getrandbits(256):064x}"
        suspicion = SUSPICION if chance.random() < SUSPICIOUS else ""
        seconds = (job.completed_at - job.started_at).total_seconds() if job.completed_at and job.started_at else 0
        job.result = {
            "archive": self._good, "archive_id": borg_id, "name": name, "files": original // 50_000,
            "original": original, "compressed": compressed, "deduplicated": added, "duration": seconds,
            "suspicion": suspicion, "unreadable": job.warnings, "unreadable_paths": [],
        }  # fmt: skip
        if self._good <= self._pruned:
            return
        self._archives.add(
            self._good, plan.repository_id, plan.server_id, plan.pk, job.pk, name, borg_id, job.started_at,
            job.started_at, job.completed_at, seconds, original, compressed, added, original // 50_000, job.warnings,
            f"borg create --json --list --compression lz4 ::{name} /srv/data", suspicion, chance.random() < 0.001,
            job.completed_at, job.completed_at,
        )  # fmt: skip
        kept = self.kept[whose]
        kept.sums = tuple(map(add, kept.sums, (original, compressed, added, 1)))
        if not suspicion:
            kept.of_plan["last_good_at"] = job.started_at

    def _keep(self, job: Job, whose: int) -> None:
        """As RunBackup.ended does."""
        plan = self.kept[whose].of_plan
        if job.has_ended:
            hour = job.created_at.replace(minute=0, second=0, microsecond=0)
            counted = self.hours.setdefault(hour, Counter())
            counted[job.status] += 1
            counted["suspicious"] += tally.is_suspicious(job)
        if job.trigger == Job.Trigger.SCHEDULE:
            plan["due_at"] = job.created_at
        if job.has_ended and job.status != Status.CANCELLED:
            plan.update(tally.kept_of(job))

    # --- Logs ---------------------------------------------------------------------------------------

    def make_lines(self) -> None:
        at, key = (prepared_by(field) for field in fields_of(LogLine, "at", "job"))
        with Heap(LogLine, "job", "server", "number", "attempt", "at", "level", "message") as rows:
            for job in self.logged:
                pk, server, step = key(job.job), job.server.pk, (job.ended_at - job.began_at) / job.lines
                for number in range(1, job.lines + 1):
                    if number % 10 == 1:  # a batch, as borg's output comes
                        moment = at(job.began_at + step * number)
                    rows.add_prepared(pk, server, number, 1, moment, *line_of(job, number))


def line_of(job: Logged, number: int) -> tuple[int, str]:
    if job.error and number == job.lines:
        return Level.ERROR, job.error
    if job.warnings >= number:
        return Level.WARNING, DENIED.format(name=job.server.name, number=number)
    level, text = STEPS[number % len(STEPS)]
    return level, text.format(name=job.server.name, number=number)
