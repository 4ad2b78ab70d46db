"""A fleet of servers with a year behind it, made up: what `make bench` measures lists and statistics on.

The same seed makes the same fleet, but for when "now" is. What is kept of rows (BackupHour, a plan's last job, the
sizes of a repository) is kept as the product itself would have kept it; a test compares.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import encryption
from accounts.models import User
from backups import growth
from backups.models import (
    BackupHour,
    Plan,
    Repository,
    RestoreTest,
    RetentionPolicy,
    Source,
    StorageDay,
    StoragePool,
    archive_prefix,
)
from backups.proofs import signed
from backups.runners.create import STAMP
from jobs.models import Job
from phpborg.bulk import hurried
from phpborg.past import Past, Things
from servers.keys import new_key_pair
from servers.models import Server, Tag

SERVERS_OF_A_POOL = 500
POOL_BYTES = 80 * 10**12
ROLES = ("web", "db", "mail", "files", "app")
SITES = ("berlin", "lyon", "oslo", "test", "production")
PEOPLE = 100
BATCH = 500
DAYS_KEPT = 365  # of what is stored
NO_PASSWORD = "!"


class NotPossible(Exception):
    """What is asked for cannot be made; a sentence says why."""


@dataclass(frozen=True)
class Size:
    servers: int = 10_000
    jobs: int = 1_000_000
    archives: int = 365_000
    log_lines: int = 10_000_000
    seed: int = 1


class Fleet:
    def __init__(self, size: Size, tell: Callable[[str], object] = lambda _: None) -> None:
        self.size = size
        self.now = timezone.now()
        self._tell = tell
        self._chance = random.Random(size.seed)  # noqa: S311  # not for secrets

    def make(self) -> None:
        """Raises NotPossible, before anything is written."""
        if Server.objects.exists() or Job.objects.exists() or StoragePool.objects.exists():
            raise NotPossible("A fleet is only made in a database that has no servers, storage pools and jobs yet.")
        past = Past(self.size.jobs, self.size.archives, self.size.log_lines, self.now, self._chance)
        past.foresee(self.size.servers)
        if past.archives_missing:
            raise NotPossible(f"So many jobs make {past.archives_missing:,} archives too few. Ask for more jobs.")
        with hurried(), transaction.atomic():
            things = self._things()
            self._tell(f"{self.size.servers:,} servers, each with a repository, a source and a plan.")
            past.make_jobs(things)
            self._tell(f"{self.size.jobs:,} jobs and {self.size.archives:,} archives.")
            past.make_lines()
            self._tell(f"{self.size.log_lines:,} log lines.")
            self._keep(past, things)

    def _things(self) -> Things:
        private, public = new_key_pair("phpborg@fleet")  # one for all: nobody ever goes there
        self._secret, self._public = encryption.encrypt(private), public
        self._host_key, self._other_key = (" ".join(new_key_pair("")[1].split()) for _ in range(2))
        numbers = range(self.size.servers)
        pools = StoragePool.objects.bulk_create(map(self._pool, range(1, len(numbers) // SERVERS_OF_A_POOL + 2)))
        servers = Server.objects.bulk_create(map(self._server, numbers), batch_size=BATCH)
        tag(servers)
        repositories = Repository.objects.bulk_create(
            (self._repository(server, pools[n % len(pools)]) for n, server in enumerate(servers)), batch_size=BATCH
        )
        retention = RetentionPolicy.objects.first()
        plans = Plan.objects.bulk_create(
            (self._plan(servers[n], repositories[n], retention) for n in numbers), batch_size=BATCH
        )
        give_sources(plans)
        people = User.objects.bulk_create(User(username=f"person-{n:03}", password=NO_PASSWORD) for n in range(PEOPLE))
        return Things(servers, repositories, plans, people)

    def _pool(self, number: int) -> StoragePool:
        name = f"pool-{number:02}"
        return StoragePool(
            name=name, path=f"/srv/{name}", checked_at=self.now, total_bytes=POOL_BYTES,
            free_bytes=int(POOL_BYTES * self._chance.uniform(0.05, 0.6)),
        )  # fmt: skip

    def _server(self, number: int) -> Server:
        odd = self._chance.random()
        return Server(
            name=f"{ROLES[number % len(ROLES)]}-{number:05}", port=22, system="Debian 12", borg_version="1.4.0",
            address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", borg_path="/usr/bin/borg",
            private_key_encrypted=self._secret, public_key=self._public, enabled=odd > 0.02,
            host_key="" if odd > 0.995 else self._host_key, tested_at=self.now, test_ok=True, seen_at=self.now,
            host_key_seen=self._other_key if 0.99 < odd < 0.993 else self._host_key,
        )  # fmt: skip

    def _repository(self, server: Server, pool: StoragePool) -> Repository:
        odd = self._chance.random()
        return Repository(
            name=server.name, pool=pool, server=server, state=Repository.State.READY, measured_at=self.now,
            borg_id=f"{self._chance.getrandbits(256):064x}", passphrase_encrypted=self._secret,
            key_encrypted=self._secret, checked_at=self.now - timedelta(days=odd * 7), compared_at=self.now,
            damage="The check found damage in a segment." if odd < 0.002 else "",
            frozen="An archive is gone that we did not delete." if odd > 0.997 else "",
        )  # fmt: skip

    def _plan(self, server: Server, repository: Repository, retention: RetentionPolicy | None) -> Plan:
        draw = self._chance.randrange
        return Plan(
            name="data", server=server, repository=repository, retention=retention, enabled=draw(100) > 0,
            schedule=f"{draw(60)} {draw(24)} * * {draw(7)}", time_zone="Europe/Berlin",
            next_run_at=self.now + timedelta(seconds=draw(7 * 86_400)),
        )  # fmt: skip

    def _keep(self, past: Past, things: Things) -> None:
        """What plans, repositories and hours keep of the jobs that have been."""
        sums = ("original_bytes", "compressed_bytes", "deduplicated_bytes", "archive_count")
        for plan, repository, kept in zip(things.plans, things.repositories, past.kept, strict=True):
            update(plan, kept.of_plan)
            update(repository, dict(zip(sums, kept.sums, strict=True)))
        self._prove(things.plans)
        names = [
            "last_job", "last_outcome", "last_took", "last_good_at", "due_at", "tidied_at", "proved_at",
            "proof_failed", "proof_due_at", "proof_overdue_at",
        ]  # fmt: skip
        Plan.objects.bulk_update(things.plans, names, batch_size=BATCH)
        Repository.objects.bulk_update(things.repositories, sums, batch_size=BATCH)
        BackupHour.objects.bulk_create((BackupHour(began_at=at, **n) for at, n in past.hours.items()), batch_size=BATCH)
        self._grow()

    def _grow(self) -> None:
        """A year in which each pool came to hold what it holds today, evenly."""
        growth.note()
        today = list(StorageDay.objects.select_related("pool"))
        StorageDay.objects.bulk_create(
            (
                StorageDay(
                    pool=last.pool, day=last.day - timedelta(days=ago), used_bytes=int((last.used_bytes or 0) * share),
                    **{name: int(getattr(last, name) * share) for name in growth.SIZES},
                )
                for last in today
                for ago in range(1, DAYS_KEPT)
                for share in [1 - ago / DAYS_KEPT]
            ),
            batch_size=BATCH,
        )  # fmt: skip

    def _prove(self, plans: list[Plan]) -> None:
        """Restore tests of those that have a good archive: the last of each, a few of which did not hold."""
        tests = []
        for plan in plans:
            if plan.last_good_at is None:
                continue
            period = timedelta(days=plan.proof_days)
            at = self.now - self._chance.random() * period
            held = self._chance.random() > 0.002
            failure = "" if held else "The repository is damaged."
            plan.proof_due_at, plan.proof_overdue_at = at + period, at + 2 * period
            plan.proved_at, plan.proof_failed = at if held else at - period, failure
            tests.append(self._test(plan, at, failure))
        RestoreTest.objects.bulk_create(tests, batch_size=BATCH)

    def _test(self, plan: Plan, at: datetime, failure: str) -> RestoreTest:
        size = self._chance.randrange(10**6, 10**9)
        name = f"{archive_prefix(plan)}-{at:{STAMP}}"
        evidence = {
            "server": plan.server.name, "plan": plan.name, "archive": {"name": name}, "held": not failure,
            "files": plan.proof_files, "bytes": size, "seconds": size / 10**8,
        }  # fmt: skip
        return RestoreTest(
            plan=plan, server=plan.server, name=name, at=at, held=not failure, failure=failure, files=plan.proof_files,
            bytes=size, seconds=size / 10**8, **signed(evidence),
        )  # fmt: skip


def tag(servers: list[Server]) -> None:
    """Each with its role and its site."""
    tags = {tag.name: tag for tag in Tag.objects.bulk_create(Tag(name=name) for name in (*ROLES, *SITES))}
    through = Server.tags.through
    named = (
        through(server=server, tag=tags[name])
        for number, server in enumerate(servers)
        for name in (ROLES[number % len(ROLES)], SITES[number // len(ROLES) % len(SITES)])
    )
    through.objects.bulk_create(named, batch_size=BATCH)


def give_sources(plans: list[Plan]) -> None:
    made = (Source(name="data", server=plan.server, parameters={"paths": ["/srv/data"]}) for plan in plans)
    sources = Source.objects.bulk_create(made, batch_size=BATCH)
    through = Plan.sources.through
    pairs = (through(plan=plan, source=source) for plan, source in zip(plans, sources, strict=True))
    through.objects.bulk_create(pairs, batch_size=BATCH)


def update(row: object, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(row, name, value)
