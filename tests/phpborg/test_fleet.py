"""`manage.py make_fleet`: what it makes fits together, as if the product had lived through it."""

from __future__ import annotations

from datetime import datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models, transaction
from django.db.models import Count, F, Max, Sum
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from backups import health, stats, tally
from backups.health import State
from backups.models import Archive, BackupHour, Plan, Repository, Source
from backups.proofs import is_signed
from jobs.models import Job, JobEvent, LogLine
from phpborg.fleet import Fleet, Size
from phpborg.overview import overview
from servers.models import Server

SMALL = Size(servers=8, jobs=400, archives=90, log_lines=700)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    return now


@pytest.fixture
def fleet(db: None, now: datetime) -> None:
    Fleet(SMALL).make()


@pytest.mark.usefixtures("fleet")
def test_there_is_as_much_as_was_asked_for() -> None:
    counts = {model: model._default_manager.count() for model in (Server, Job, Archive, LogLine)}
    assert counts == {Server: 8, Job: 400, Archive: 90, LogLine: 700}
    assert Plan.objects.count() == Repository.objects.count() == Source.objects.count() == 8
    assert JobEvent.objects.exists()
    connection.check_constraints()


@pytest.mark.usefixtures("fleet")
def test_what_is_kept_of_backups_is_what_would_be_made_anew() -> None:
    def kept() -> list[Any]:
        hours = BackupHour.objects.order_by("began_at").values_list(
            "began_at", "completed", "suspicious", "failed", "cancelled"
        )
        plans = Plan.objects.order_by("pk").values_list("last_job", "last_outcome", "last_took")
        return [*hours, *plans, *Repository.objects.order_by("pk").values_list("archive_count")]

    before = kept()
    tally.rebuild()
    assert kept() == before


@pytest.mark.usefixtures("fleet")
def test_a_plan_keeps_its_last_job_and_its_last_good_archive() -> None:
    for plan in Plan.objects.all():
        jobs = plan.jobs.filter(type="backup", status__in=("completed", "failed"))
        assert plan.last_job == jobs.latest("created_at")
        tidied = plan.jobs.filter(type="prune", status="completed").order_by("-created_at").first()
        assert plan.tidied_at == (tidied and tidied.completed_at)
        kept = plan.last_good_at
        plan.note_last_good()
        plan.refresh_from_db()
        assert plan.last_good_at == kept


@pytest.mark.usefixtures("fleet")
def test_a_plan_keeps_what_its_last_restore_test_found() -> None:
    proven = 0
    for plan in Plan.objects.all():
        last = plan.restore_tests.first()
        assert (last is None) == (plan.last_good_at is None) == (plan.proof_due_at is None)
        if last:
            proven += 1
            assert plan.proof_failed == last.failure
            assert is_signed(last.evidence, last.signature, last.public_key)
            assert last.held is (plan.proved_at == last.at)
    assert proven


@pytest.mark.usefixtures("fleet")
def test_a_repository_keeps_the_sums_of_its_archives() -> None:
    sums = [f"{name}_bytes" for name in ("original", "compressed", "deduplicated")]
    for repository in Repository.objects.all():
        added = repository.archives.aggregate(**{name: Sum(name, default=0) for name in sums})
        assert [getattr(repository, name) for name in sums] == [added[name] for name in sums]


@pytest.mark.usefixtures("fleet")
def test_a_job_has_the_lines_that_it_says() -> None:
    said = Job.objects.filter(log_lines__gt=0).values_list("pk", "log_lines")
    counted = Job.objects.annotate(n=Count("lines"), newest=Max("lines__number")).filter(n__gt=0)
    assert dict(said) == dict(counted.values_list("pk", "n")) == dict(counted.values_list("pk", "newest"))
    assert not LogLine.objects.exclude(server=F("job__server")).exists()
    failed = Job.objects.filter(status="failed", log_lines__gt=0)
    assert failed.exists()
    for job in failed:
        assert job.lines.get(level=LogLine.Level.ERROR).message == job.error


@pytest.mark.usefixtures("fleet")
def test_nothing_happens_before_its_time(now: datetime) -> None:
    for job in Job.objects.all():
        times = [at for at in (job.created_at, job.started_at, job.completed_at, now) if at]
        assert times == sorted(times)
    for event in JobEvent.objects.select_related("job"):
        assert event.at in (event.job.created_at, event.job.started_at, event.job.completed_at)


@pytest.mark.usefixtures("fleet")
def test_lists_statistics_and_health_agree(api_admin: APIClient, admin: User, now: datetime) -> None:
    shown = api_admin.get("/api/stats/dashboard").json()
    for name in ("servers", "plans", "repositories", "archives"):
        assert shown[name] == api_admin.get(f"/api/{name}").json()["count"]
    states = [one.state for one in health.of_servers(Server.objects.all()).values()]
    assert stats.health_of(Server.objects.count(), now) == {state: states.count(state) for state in State}
    page = overview(admin)
    assert page["protected"] == shown["health"]["protected"]
    assert page["needs_count"] == shown["health"]["at_risk"] + shown["health"]["attention"] > 0
    worst_first = [health.WORST_FIRST.index(one.state) for _, one in page["needs"]]
    assert worst_first == sorted(worst_first)
    assert shown["jobs"]["running"] == len(api_admin.get("/api/jobs/running").json()["results"])
    assert shown["stored"]["original"] == Archive.objects.aggregate(n=Sum("original_bytes"))["n"]


def made() -> list[Any]:
    """What a fleet of the seed is, without the moment at which it was made."""
    with transaction.atomic():
        Fleet(SMALL).make()
        models_made: list[tuple[type[models.Model], list[str]]] = [
            (Server, ["name", "address", "enabled"]), (Job, ["type", "status", "trigger", "log_lines"]),
            (Archive, ["name", "original_bytes", "suspicion"]), (LogLine, ["number", "level", "message"]),
        ]  # fmt: skip
        found = [list(model._default_manager.order_by("pk").values_list(*names)) for model, names in models_made]
        transaction.set_rollback(True)
    return found


@pytest.mark.django_db
def test_the_same_seed_makes_the_same_fleet(now: datetime) -> None:
    assert made() == made()


@pytest.mark.django_db
def test_it_is_not_made_beside_what_is_real(server: Server) -> None:
    with pytest.raises(CommandError, match="only made in a database that has no servers"):
        call_command("make_fleet", servers=1)
    assert Server.objects.count() == 1


@pytest.mark.django_db
def test_it_is_not_made_with_more_archives_than_there_can_be() -> None:
    with pytest.raises(CommandError, match="archives too few"):
        call_command("make_fleet", servers=2, jobs=20, archives=20, log_lines=0)
    assert not Server.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_command_tells_how_far_it_is() -> None:
    said = StringIO()
    call_command("make_fleet", servers=3, jobs=60, archives=9, log_lines=50, stdout=said)
    assert said.getvalue().splitlines()[-1] == "50 log lines."
    assert Server.objects.count() == 3
