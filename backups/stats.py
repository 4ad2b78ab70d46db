"""Numbers about everything, from what is kept or indexed: none of them costs more with a million jobs.

Sizes of repositories are borg's own (`Repository.original_bytes` and the like): each backup and each comparison stores
what borg says of the whole repository. What a deletion freed shows after the next of either, a day later at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.db.models import (
    BigIntegerField,
    Case,
    CharField,
    Count,
    DateTimeField,
    Exists,
    ExpressionWrapper,
    F,
    IntegerField,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.expressions import RawSQL
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce, Substr
from django.db.models.lookups import LessThan
from django.utils import timezone

from accounts.models import User
from backups import health
from backups.health import WORST_FIRST, Health, State
from backups.models import Archive, BackupHour, Plan, Repository, StoragePool
from backups.schedule import GRACE
from jobs.models import Job
from servers.models import Server

Viewer = User | AnonymousUser

OUTCOMES = ("completed", "suspicious", "failed", "cancelled")
FEW = 0.05  # of a day's backups that failed: among thousands there are always some
RATE_DAYS = (1, 7, 30)
SERVER_DAYS = 30
RECENT = timedelta(hours=24)
NEXT_RUNS_SHOWN = 10
POOLS_SHOWN = 100
REPOSITORIES_SHOWN = 50
GROWTH_OVER = timedelta(days=7)
SHOWN_OF_MOST = 15


@dataclass(frozen=True)
class Sizes:
    """What borg says of repositories, in bytes."""

    original: int
    compressed: int  # before deduplication
    deduplicated: int  # what it takes on disk, about

    @property
    def compression(self) -> float | None:
        """How many times smaller compression alone makes it; None where nothing is stored."""
        return self.original / self.compressed if self.compressed else None

    @property
    def deduplication(self) -> float | None:
        """How many times smaller deduplication makes it after that."""
        return self.compressed / self.deduplicated if self.deduplicated else None

    @property
    def saved_share(self) -> float | None:
        """What both spare, between 0 and 1."""
        return 1 - self.deduplicated / self.original if self.original else None


@dataclass
class Outcome:
    """How backups ended; each counts when it was asked for, however long it took."""

    completed: int = 0
    suspicious: int = 0  # of the completed
    failed: int = 0
    cancelled: int = 0

    def add(self, numbers: Sequence[int]) -> None:
        """In the order of OUTCOMES."""
        for name, number in zip(OUTCOMES, numbers, strict=True):
            setattr(self, name, getattr(self, name) + number)

    @property
    def success_rate(self) -> float | None:
        """Good ones among those that ended by themselves, between 0 and 1; None: there were none.

        Who cancels a backup says nothing about how well backups go; a suspicious archive is no good one.
        """
        ended = self.completed + self.failed
        return self.good / ended if ended else None

    @property
    def good(self) -> int:
        return self.completed - self.suspicious

    @property
    def mark(self) -> str:
        """Of a square in a row of days: good | few or some (of them bad) | bad | none (was asked for)."""
        bad = self.failed + self.suspicious
        if not bad:
            return "good" if self.good else "none"
        if not self.good:
            return "bad"
        return "few" if bad <= FEW * (bad + self.good) else "some"


@dataclass
class Rate(Outcome):
    days: int = 0


@dataclass
class Day(Outcome):
    """One day of one server, or (without bytes and duration) of all together; in UTC."""

    day: date = date.min
    data_bytes: int = 0  # what was there to be saved: of each plan its largest backup
    added_bytes: int = 0  # what its archives added to the repository, at the time
    duration: float = 0.0  # seconds that its backups ran, together

    @property
    def next(self) -> date:
        return self.day + timedelta(days=1)


@dataclass(frozen=True)
class Dashboard:
    """Everything together, and where it comes from."""

    at: datetime
    servers: int  # counted by the index of their ids, as plans
    plans: int
    repositories: int  # counted with their sizes
    repositories_damaged: int
    repositories_frozen: int
    archives: int  # on our record, those that vanished or are put aside too; the sum of what repositories keep
    health: dict[State, int]  # from what plans, their repositories and servers keep
    stored: Sizes  # the sum of what repositories keep
    jobs: dict[str, int]  # by an index that has status and time
    backups: list[Rate]  # from BackupHour
    pools: list[StoragePool]  # as the last look found them
    next_runs: list[Plan]  # by the index of next_run_at


@dataclass(frozen=True)
class ServerStats:
    """One server, and where it comes from."""

    at: datetime
    server: Server
    health: Health
    stored: Sizes  # the sum of what its repositories keep
    repositories: list[Repository]
    plans: list[Health]
    archives: int  # by the index of its archives, as the two that follow
    newest_archive_at: datetime | None
    oldest_archive_at: datetime | None
    days: list[Day]  # from its own jobs: without those that JOB_KEEP_DAYS has deleted


def dashboard(user: Viewer) -> Dashboard:
    """What `user` may see of everything, in a constant number of queries."""
    now = timezone.now()
    repositories = Repository.objects.for_user(user)
    kept = repositories.aggregate(**_SUMS, count=Count("pk"), archives=Coalesce(Sum("archive_count"), 0))
    pools = StoragePool.objects.for_user(user)
    plans = Plan.objects.for_user(user)
    # Where SQLite reads a generated column, it reads whole rows, even if an index has all: so these two are counted by
    # themselves.
    numbers = numbers_of(
        servers=Server.objects.for_user(user),
        plans=plans,
        damaged=repositories.filter(is_damaged__in=[True]),
        frozen=repositories.filter(is_frozen__in=[True]),
    )
    return Dashboard(
        at=now,
        servers=numbers["servers"],
        plans=numbers["plans"],
        repositories=kept["count"],
        repositories_damaged=numbers["damaged"],
        repositories_frozen=numbers["frozen"],
        archives=int(kept["archives"]),
        health=health_of(numbers["servers"], now),
        stored=_sizes(kept),
        jobs=jobs_of(Job.objects.for_user(user), now),
        backups=rates(now),
        pools=list(pools.order_by(F("free_bytes").asc(nulls_last=True), "pk")[:POOLS_SHOWN]),
        next_runs=list(next_plans(user)[:NEXT_RUNS_SHOWN]),
    )


def next_plans(user: Viewer) -> QuerySet[Plan]:
    """Those that will run by themselves, the next first. `IN` for SQLite, which takes no index for `WHERE enabled`."""
    plans = Plan.objects.for_user(user).filter(enabled__in=[True], server__enabled=True, next_run_at__isnull=False)
    return plans.order_by("next_run_at", "pk")


def of_server(server: Server, user: Viewer) -> ServerStats:
    """What `user` may see of one server that they may see, in a constant number of queries."""
    now = timezone.now()
    repositories = list(Repository.objects.for_user(user).filter(server=server).order_by("name", "pk"))
    plans = health.plans_of([server])[server.pk]
    archives = Archive.objects.for_user(user).filter(server=server)
    told = archives.aggregate(count=Count("pk"), oldest=Min("start"), newest=Max("start"))
    return ServerStats(
        at=now,
        server=server,
        health=health.of_server(server, plans),
        stored=total_of(repositories),
        repositories=repositories,
        plans=[health.of_plan(plan) for plan in plans],
        archives=told["count"],
        newest_archive_at=told["newest"],
        oldest_archive_at=told["oldest"],
        days=days_of(Job.objects.for_user(user).filter(server=server), now),
    )


# --- Sizes: kept by each repository -----------------------------------------------------------

# Of a row for each repository, not for each archive.
_SUMS = {name: Coalesce(Sum(f"{name}_bytes"), 0) for name in ("original", "compressed", "deduplicated")}


def sizes_of(repository: Repository) -> Sizes:
    return Sizes(repository.original_bytes, repository.compressed_bytes, repository.deduplicated_bytes)


def total_of(repositories: list[Repository]) -> Sizes:
    each = [sizes_of(repository) for repository in repositories]
    return Sizes(
        sum(sizes.original for sizes in each), sum(sizes.compressed for sizes in each),
        sum(sizes.deduplicated for sizes in each),
    )  # fmt: skip


def total(repositories: QuerySet[Repository]) -> Sizes:
    """The same, by the database."""
    return _sizes(repositories.aggregate(**_SUMS))


def sizes_by_server(servers: Iterable[Server]) -> dict[int, int]:
    """The bytes that each server's repositories take, by its id; of those that have any."""
    repositories = Repository.objects.filter(server__in=[server.pk for server in servers]).order_by()
    sums = repositories.values_list("server").annotate(size=Sum("deduplicated_bytes"))
    return {server: int(size) for server, size in sums}  # MariaDB's sums are decimals


def number_of(rows: QuerySet[Any]) -> Subquery:
    """How many they are, as a column of another query."""
    return Subquery(rows.order_by().annotate(one=Value(1)).values("one").annotate(n=Count("*")).values("n"))


def numbers_of(**rows: QuerySet[Any]) -> dict[str, int]:
    """How many each of them are, by one query: for what an index counts."""
    first, *others = (
        each.order_by().annotate(what=Value(name)).values_list("what").annotate(number=Count("*"))
        for name, each in rows.items()
    )
    return dict.fromkeys(rows, 0) | dict(first.union(*others, all=True))


def _sizes(kept: dict[str, Any]) -> Sizes:
    return Sizes(*(int(kept[name]) for name in _SUMS))  # MariaDB's sums are decimals


# --- Jobs and backups -------------------------------------------------------------------------


def jobs_of(jobs: QuerySet[Job], now: datetime) -> dict[str, int]:
    """Those that wait and run now, and how those ended that were made in the last 24 hours; of every type.

    Counted in the index by status, priority and time: naming every priority lets the database jump to the time.
    """
    unfinished = jobs.filter(status__in=(Job.Status.PENDING, Job.Status.RUNNING))
    ended = jobs.filter(status__in=Job.FINAL, priority__in=Job.Priority.values, created_at__gte=now - RECENT)
    counted = [rows.order_by().values_list("status").annotate(count=Count("*")) for rows in (unfinished, ended)]
    return dict.fromkeys(Job.Status.values, 0) | dict(counted[0].union(counted[1], all=True))


_OUTCOMES = {f"all_{name}": Sum(name) for name in OUTCOMES}


def rates(now: datetime) -> list[Rate]:
    """How backups of the last days ended, by full hours: sums of one row for each hour (BackupHour)."""
    found = [Rate(days=days) for days in RATE_DAYS]
    whens = [Q(began_at__gt=now - timedelta(days=days)) for days in RATE_DAYS]
    shortest = Case(*(When(when, then=number) for number, when in enumerate(whens)), output_field=IntegerField())
    hours = BackupHour.objects.filter(whens[-1]).order_by().annotate(shortest=shortest).values_list("shortest")
    for number, *sums in hours.annotate(**_OUTCOMES):
        for rate in found[number:]:  # what is in a short window, is in the longer ones too
            rate.add([int(each) for each in sums])  # MariaDB's sums are decimals
    return found


def days_of_all(now: datetime, count: int) -> list[Day]:
    """How backups of the last days ended, oldest first, today last; from BackupHour."""
    days, since = _last_days(now, count)
    hours = BackupHour.objects.filter(began_at__gte=since, began_at__lte=now).order_by()
    for day, *sums in hours.annotate(day=_DAY("began_at")).values_list("day").annotate(**_OUTCOMES):
        days[date.fromisoformat(day)].add([int(number) for number in sums])
    return list(days.values())


# Both databases write a date so, in UTC; for TruncDate SQLite would call Python at each row.
_DAY = partial(Substr, pos=1, length=10, output_field=CharField())


def _last_days(now: datetime, count: int) -> tuple[dict[date, Day], datetime]:
    """The days, oldest first, and when the first one began."""
    today = now.astimezone(UTC).date()
    days = {day: Day(day=day) for day in (today - timedelta(days=ago) for ago in reversed(range(count)))}
    return days, datetime.combine(min(days), datetime.min.time(), tzinfo=UTC)


def days_of(jobs: QuerySet[Job], now: datetime) -> list[Day]:
    """The last days of one server, oldest first, today last; from its own jobs, as long as they are kept."""
    days, since = _last_days(now, SERVER_DAYS)
    ended = jobs.filter(type="backup", status__in=Job.FINAL, created_at__gte=since, created_at__lte=now).order_by()
    by_day = ended.annotate(day=_DAY("created_at"), doubts=Cast(KT("result__suspicion"), CharField()))
    summed = by_day.values_list("day", "status", "plan").annotate(
        count=Count("*"),
        suspicious=Count("pk", filter=Q(status=Job.Status.COMPLETED, doubts__gt="")),
        data=Max(Cast(KT("result__original"), BigIntegerField())),
        added=Sum(Cast(KT("result__deduplicated"), BigIntegerField())),
        took=Sum(F("completed_at") - F("started_at")),
    )
    for found, status, _plan, count, suspicious, data, added, took in summed:
        day = days[date.fromisoformat(found)]
        setattr(day, status, getattr(day, status) + count)
        day.suspicious += suspicious
        day.data_bytes += data or 0
        day.added_bytes += int(added or 0)  # MariaDB's sums are decimals
        day.duration += took.total_seconds() if took else 0
    return list(days.values())


# --- Who is largest, who grows, who takes long ------------------------------------------------


def largest_servers(user: Viewer) -> list[tuple[Server, int]]:
    """Servers with the bytes that their largest repositories take, largest first."""
    repositories = Repository.objects.for_user(user).select_related("server").only("deduplicated_bytes", "server__name")
    taken: Counter[Server] = Counter()
    for repository in repositories.order_by("-deduplicated_bytes", "pk")[:REPOSITORIES_SHOWN]:
        taken[repository.server] += repository.deduplicated_bytes
    return taken.most_common()


def growers(user: Viewer, now: datetime) -> list[tuple[Server, int]]:
    """Servers whose archives of the last days added most to what is stored, most first."""
    archives = Archive.objects.for_user(user).filter(start__gte=now - GROWTH_OVER).order_by()
    # Plus nothing: to group by the column itself SQLite reads every archive that there is, in the order of servers.
    of = archives.annotate(of=F("server_id") + 0).values_list("of")
    most = dict(of.annotate(added=Sum("deduplicated_bytes")).order_by("-added")[:SHOWN_OF_MOST])
    servers = Server.objects.only("name").in_bulk(most)
    return [(servers[pk], int(size)) for pk, size in most.items() if pk in servers]


def added_to(repository: Repository, now: datetime) -> int:
    """The bytes that those of its archives added that were taken in the last 30 days, and are still there."""
    recent = Archive.objects.filter(repository=repository, start__gte=now - timedelta(days=SERVER_DAYS)).order_by()
    return int(recent.aggregate(added=Coalesce(Sum("deduplicated_bytes"), 0))["added"])


def slowest(user: Viewer) -> list[Plan]:
    """Plans whose last backup took longest, longest first."""
    plans = Plan.objects.for_user(user).filter(last_took__gt=timedelta(0)).select_related("server")
    plans = plans.only("name", "last_took", "server__name")
    return list(plans.order_by("-last_took", "pk")[:SHOWN_OF_MOST])


# --- Health, as backups/health.py judges it, of ten thousand servers in three queries ----------

RANK = {state: number for number, state in enumerate(WORST_FIRST)}


def health_of(total: int, now: datetime) -> dict[State, int]:
    """How many servers are in each state; `total` are all that there are, or 0 if nobody may see them."""
    return counted(ranks_of(now, total) if total else {}, total)


def counted(ranks: dict[int, int], total: int) -> dict[State, int]:
    """How many of `total` servers are in each state, by the ranks of those that have one."""
    numbers = Counter(ranks.values())
    numbers[RANK[State.PROTECTED]] += total - numbers.total()
    return {state: numbers[rank] for state, rank in RANK.items()}


def in_state(servers: QuerySet[Server], state: State) -> QuerySet[Server]:
    """Those of `servers` that are in it now."""
    ranks = ranks_of(timezone.now(), Server.objects.count())
    if state == State.PROTECTED:
        return servers.exclude(pk__in=_written_out(pk for pk, rank in ranks.items() if rank != RANK[state]))
    return servers.filter(pk__in=_written_out(pk for pk, rank in ranks.items() if rank == RANK[state]))


def _written_out(pks: Iterable[int]) -> RawSQL:
    """Ids of ours in the query itself: a thousand parameters are looked at one by one, each time that it is built."""
    return RawSQL(", ".join(str(int(pk)) for pk in pks) or "-1", [])  # noqa: S611


def ranks_of(now: datetime, total: int) -> dict[int, int]:
    """The rank of what `health.of_servers` would say of each of all `total` servers, by its id; without the PROTECTED.

    What a plan is without the clock and its repository is kept with it; those two can only make it worse. So few are
    looked at closely, and only what may be unwell leaves the database; a test holds the two together.
    """
    sql, parameters = _judgement()
    meant = {
        _as_parameter(_NOW): _as_parameter(now), _as_parameter(_LATE): _as_parameter(now - GRACE), _TOTAL: total
    }  # fmt: skip
    worst: dict[int, int] = {}
    with connection.cursor() as cursor:
        cursor.execute(sql, [meant.get(each, each) for each in parameters])
        for server, rank in cursor.fetchall():
            found = int(rank)  # of whole numbers of several kinds MariaDB's union makes decimals
            worst[server] = min(found, worst.get(server, found))
    return {server: rank % _ITSELF for server, rank in worst.items()}


# Stand for the time at which is asked, for the last one at which a plan that is owed a run is not late yet, and for
# how many servers there are.
_NOW, _LATE, _TOTAL = datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 2, tzinfo=UTC), -1_000_000_000
# By so much lower is told what is amiss with a server itself: its plans make that neither better nor worse.
_ITSELF = 10

_SETTLED = (Plan.Rank.AT_RISK, Plan.Rank.ATTENTION, Plan.Rank.UNKNOWN)


@cache
def _judgement() -> tuple[str, tuple[Any, ...]]:
    """The one query of `ranks_of`, written once: that takes Django as long as the database needs to answer it."""
    # Each condition has an index, which databases merge: so few plans are read.
    by_the_clock = Q(enabled__in=[True], next_run_at__lte=_NOW) | Q(proof_overdue_at__lt=_NOW)
    of_repositories = Q(repository__is_damaged__in=[True]) | Q(repository__is_frozen__in=[True])
    closely = Plan.objects.annotate(owed=_owed(_NOW)).order_by()
    by_plans = (
        Plan.objects.filter(rank_alone__in=_SETTLED).order_by().values_list("server_id", "rank_alone"),
        *(
            closely.filter(those).values_list("server_id", _rank(_NOW, _LATE))
            for those in (Q(rank_alone__in=[Plan.Rank.BY_THE_CLOCK]) | by_the_clock, of_repositories)
        ),
    )
    # Not one union in the other: MariaDB would make a table of the inner one.
    servers, *others = *_by_themselves(), *by_plans
    query: Any = servers.union(*others, all=True).query
    found: tuple[str, tuple[Any, ...]] = query.sql_with_params()
    return found


def _as_parameter(at: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(at)


def _by_themselves() -> tuple[QuerySet[Server, tuple[int, int]], QuerySet[Server, tuple[int, int]]]:
    """Ids and ranks of servers that are out of order, and of those without a plan."""
    servers = Server.objects.order_by()
    key_has_changed = Q(enabled=True) & ~Q(host_key="")
    rank = Case(
        When(key_has_changed, then=RANK[State.AT_RISK] - _ITSELF), default=RANK[State.UNKNOWN] - _ITSELF,
        output_field=IntegerField(),
    )  # fmt: skip
    # That each server has a plan, as is usual, MariaDB finds in half the time by counting.
    planned = Plan.objects.order_by().annotate(one=Value(1)).values("one").annotate(n=Count("server", distinct=True))
    plans = Plan.objects.filter(server=OuterRef("pk"))
    some_have_none = LessThan(Subquery(planned.values("n")), Value(_TOTAL))
    without = servers.filter(some_have_none, ~Exists(plans))  # and no more: only the index of ids is read
    out_of_order = servers.filter(is_out_of_order__in=[True])
    return out_of_order.values_list("pk", rank), without.values_list("pk", Value(RANK[State.UNKNOWN]))


def _rank(now: datetime, late: datetime) -> Case:
    """Of a plan, as `health.of_plan`; reads `owed`, and what the plan keeps of its last job."""
    has_run = Q(last_job__isnull=False)
    return Case(
        When(enabled=False, then=RANK[State.UNKNOWN]),
        When(~Q(repository__damage="") | (has_run & Q(last_outcome=Plan.Outcome.FAILED)), then=RANK[State.AT_RISK]),
        When(~Q(proof_failed="") | _overdue(late), then=RANK[State.AT_RISK]),
        When(~has_run, then=RANK[State.UNKNOWN]),
        When(last_outcome=Plan.Outcome.SUSPICIOUS, then=RANK[State.ATTENTION]),
        When(last_good_at=None, then=RANK[State.AT_RISK]),
        When(~Q(repository__frozen="") | Q(last_outcome=Plan.Outcome.WARNINGS), then=RANK[State.ATTENTION]),
        When(proof_overdue_at__lt=now, then=RANK[State.ATTENTION]),
        default=RANK[State.PROTECTED],
        output_field=IntegerField(),
    )


def _owed(now: datetime) -> Case:
    """Of a plan, as `schedule.owed_since`."""
    unanswered = {
        name: Q(**{f"{name}__lte": now}) & (Q(last_good_at=None) | Q(last_good_at__lt=F(name)))
        for name in ("due_at", "next_run_at")
    }
    whens = [When(condition, then=F(name)) for name, condition in unanswered.items()]
    return Case(*whens, output_field=DateTimeField())


def _overdue(late: datetime) -> Q:
    """Of a plan, as `schedule.overdue_since`; reads `owed`."""
    later = ExpressionWrapper(Value(late, DateTimeField()) - F("last_took"), DateTimeField())
    return ~Q(schedule="") & Q(owed__lt=late) & (Q(last_job=None) | Q(owed__lt=later))
