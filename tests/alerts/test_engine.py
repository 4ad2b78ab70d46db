"""What is wrong is told once, once again as often as the rule says, and once when it is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from alerts import engine
from alerts.events import EventKind, NotKnown
from alerts.kinds.site import WorkersGone
from alerts.models import Channel, Delivery, Incident, Rule
from backups.models import Plan, Repository, StorageDay, StoragePool
from jobs import queue
from jobs.models import Job
from servers.models import Server, Tag
from tests.alerts.conftest import TO, ended, make_channel, make_rule, send_all
from tests.smtp import Post

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


def passes(**span: float) -> None:
    """Time goes by: what was noted lies further back."""
    back = timedelta(**span)
    for incident in Incident.objects.all():
        Incident.objects.filter(pk=incident.pk).update(
            opened_at=incident.opened_at - back,
            told_at=incident.told_at and incident.told_at - back,
            closed_at=incident.closed_at and incident.closed_at - back,
        )


def subjects(post: Post) -> list[str]:
    return [str(message["Subject"]) for message in post.messages]


def test_a_failure_is_told_once_and_its_recovery_once(plan: Plan, mail: Channel, post: Post) -> None:
    """Red without `told_at`: each look sends it again; red without `recovery_due`: so with the recovery."""
    make_rule("backup_failed", mail)
    ended(plan, "failed", error="The disk is full.")
    for _look in range(3):
        engine.look()
        send_all()
    assert subjects(post) == ["[critical] backup_failed: web-1/files"]
    assert post.recipients == [TO]
    assert "The backup failed: The disk is full." in post.messages[0].as_string()
    ended(plan, "failed", error="Again.")  # still the same incident
    engine.look()
    assert send_all() == []
    ended(plan, "good")
    for _look in range(3):
        engine.look()
        send_all()
    assert subjects(post)[1:] == ["[critical] Over: backup_failed: web-1/files"]
    assert [incident.closed_at is not None for incident in Incident.objects.all()] == [True]
    assert set(Delivery.objects.values_list("status", flat=True)) == {"sent"}


def test_a_second_failure_after_a_recovery_is_another_incident(plan: Plan, mail: Channel, post: Post) -> None:
    make_rule("backup_failed", mail)
    for outcome in ("failed", "good", "failed"):
        ended(plan, outcome)
        engine.look()
        send_all()
    assert len(post.messages) == 3
    assert Incident.objects.count() == 2


def test_two_hundred_failures_are_one_message(plan: Plan, mail: Channel, post: Post) -> None:
    """Red with a message for each; those that come while it is gathered are in it."""
    rule = make_rule("backup_failed", mail, gather_minutes=5)
    plans = Plan.objects.bulk_create(
        Plan(name=f"p{n}", server=plan.server, repository=plan.repository) for n in range(200)
    )
    pks = [each.pk for each in plans]
    Plan.objects.filter(pk__in=pks[:120]).update(last_outcome="failed")
    engine.look()
    assert send_all() == []
    Plan.objects.filter(pk__in=pks[120:]).update(last_outcome="failed")
    engine.look()
    passes(minutes=6)
    engine.look()
    send_all()
    assert subjects(post) == [f"[critical] {rule.name}: 200 alerts"]
    assert "And 150 more." in post.messages[0].as_string()
    Plan.objects.update(last_outcome="good")
    engine.look()
    passes(minutes=6)
    engine.look()
    send_all()
    assert subjects(post)[1:] == [f"[critical] Over: {rule.name}: 200 alerts"]


def test_what_comes_and_goes_before_anybody_was_told_is_not_told(plan: Plan, mail: Channel, post: Post) -> None:
    make_rule("backup_failed", mail, gather_minutes=5)
    ended(plan, "failed")
    engine.look()
    ended(plan, "good")
    engine.look()
    passes(hours=1)
    engine.look()
    assert send_all() == []
    assert Incident.objects.get().closed_at


def test_what_comes_back_before_its_recovery_was_told_is_the_same_incident(plan: Plan, mail: Channel) -> None:
    """Red without: “over” would be sent after it has failed again."""
    make_rule("backup_failed", mail, gather_minutes=5)
    ended(plan, "failed")
    engine.look()
    passes(minutes=6)
    for outcome in ("failed", "good", "failed"):
        ended(plan, outcome)
        engine.look()
    passes(minutes=6)
    engine.look()
    assert list(Delivery.objects.values_list("kind", flat=True)) == ["problem"]
    assert Incident.objects.get().closed_at is None


def test_it_is_repeated_as_often_as_the_rule_says(plan: Plan, mail: Channel) -> None:
    make_rule("backup_failed", mail, repeat_hours=4)
    ended(plan, "failed")
    engine.look()
    passes(hours=3)
    engine.look()
    assert Delivery.objects.count() == 1
    passes(hours=2)
    engine.look()
    engine.look()
    assert list(Delivery.objects.order_by("pk").values_list("kind", flat=True)) == ["problem", "repeat"]
    assert Incident.objects.get().told_count == 2


def test_a_rule_may_keep_silent_about_the_end(plan: Plan, mail: Channel) -> None:
    make_rule("backup_failed", mail, tell_recovery=False)
    for outcome in ("failed", "good"):
        ended(plan, outcome)
        engine.look()
    assert list(Delivery.objects.values_list("kind", flat=True)) == ["problem"]


@pytest.mark.parametrize("change", ["plan", "rule"])
def test_of_what_is_looked_at_no_more_nobody_says_that_it_is_well(plan: Plan, mail: Channel, change: str) -> None:
    """Red without `watched`: a plan that is paused would be reported as recovered."""
    rule = make_rule("backup_failed", mail)
    ended(plan, "failed")
    engine.look()
    model: Any = Plan if change == "plan" else Rule
    model.objects.filter(pk=plan.pk if change == "plan" else rule.pk).update(enabled=False)
    engine.look()
    engine.look()
    assert Delivery.objects.count() == 1
    assert Incident.objects.get().closed_at


def test_each_channel_gets_it_and_one_that_is_switched_off_does_not(plan: Plan, mail: Channel) -> None:
    other = make_channel("mail", {"to": "b@example.org"}, name="other")
    off = make_channel("mail", {"to": "c@example.org"}, name="off", enabled=False)
    make_rule("backup_failed", mail, other, off)
    ended(plan, "failed")
    engine.look()
    assert set(Delivery.objects.values_list("channel__name", flat=True)) == {"to mail", "other"}


# --- Quiet hours ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "is_quiet"),
    [
        # Paris puts the clock from 2:00 to 3:00 on 2026-03-29, and from 3:00 back to 2:00 on 2026-10-25.
        (datetime(2026, 3, 28, 20, 59, tzinfo=UTC), False),  # 21:59
        (datetime(2026, 3, 28, 21, 0, tzinfo=UTC), True),  # 22:00
        (datetime(2026, 3, 29, 4, 59, tzinfo=UTC), True),  # 6:59 in summer; red with the offset of the evening
        (datetime(2026, 3, 29, 5, 0, tzinfo=UTC), False),  # 7:00
        (datetime(2026, 10, 24, 20, 0, tzinfo=UTC), True),  # 22:00 in summer
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), True),  # 2:30 for the first time
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), True),  # and for the second
        (datetime(2026, 10, 25, 5, 59, tzinfo=UTC), True),  # 6:59 in winter; red with the offset of the evening
        (datetime(2026, 10, 25, 6, 0, tzinfo=UTC), False),
    ],
)
def test_quiet_hours_are_those_of_the_clock_on_the_wall(moment: datetime, is_quiet: bool) -> None:
    rule = Rule(quiet="22:00-07:00", time_zone="Europe/Paris")
    assert rule.is_quiet(moment) == is_quiet


def test_a_window_over_the_end_of_the_week(db: None) -> None:
    rule = Rule(quiet="sun 22:00-07:00", time_zone="UTC")
    assert rule.is_quiet(datetime(2026, 3, 30, 6, 59, tzinfo=UTC))  # a Monday
    assert not rule.is_quiet(datetime(2026, 3, 31, 6, 59, tzinfo=UTC))


def test_what_is_held_back_follows_when_the_quiet_hours_end(plan: Plan, mail: Channel) -> None:
    now = timezone.now()
    around = f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=1):%H:%M}"
    rule = make_rule("backup_failed", mail, quiet=around)
    ended(plan, "failed")
    engine.look()
    assert (Delivery.objects.count(), Incident.objects.open().count()) == (0, 1)
    Rule.objects.filter(pk=rule.pk).update(quiet="")
    engine.look()
    assert Delivery.objects.count() == 1


# --- Kinds ----------------------------------------------------------------------------------------


def open_ones() -> list[str]:
    return list(Incident.objects.open().order_by("subject").values_list("subject", flat=True))


@pytest.mark.parametrize(("event", "outcome"), [("backup_warnings", "warnings"), ("suspicious", "suspicious")])
def test_other_outcomes(plan: Plan, event: str, outcome: str) -> None:
    make_rule(event)
    ended(plan, outcome, warnings=3, result={"suspicion": "It is much smaller."})
    engine.look()
    assert open_ones() == [f"plan:{plan.pk}"]


def test_the_dead_mans_switch(plan: Plan) -> None:
    """Of a plan that never ran too, and by each rule's own hours."""
    make_rule("no_good_backup", parameters={"hours": 5})
    make_rule("no_good_backup", name="long", parameters={"hours": 50})
    engine.look()
    assert open_ones() == []
    Plan.objects.update(created_at=timezone.now() - timedelta(hours=6))
    engine.look()
    assert open_ones() == [f"plan:{plan.pk}"]
    Plan.objects.update(last_good_at=timezone.now() - timedelta(hours=4))
    engine.look()
    assert open_ones() == []
    Plan.objects.update(last_good_at=timezone.now() - timedelta(hours=6))
    engine.look()
    assert len(open_ones()) == 1
    assert Incident.objects.open().get().rule.name == "no_good_backup"


def test_repositories(repository: Repository) -> None:
    make_rule("repository_stopped")
    make_rule("check_owed", parameters={"days": 10})
    engine.look()
    assert open_ones() == []
    Repository.objects.update(frozen="An archive is gone.")
    engine.look()
    assert [i.event for i in Incident.objects.open()] == ["repository_stopped"]
    Repository.objects.update(frozen="", damage="A byte flipped.")
    engine.look()
    assert {i.event for i in Incident.objects.open()} == {"repository_stopped", "check_owed"}
    Repository.objects.update(damage="", checked_at=timezone.now() - timedelta(days=11))
    engine.look()
    assert [i.event for i in Incident.objects.open()] == ["check_owed"]


def test_pools(pool: StoragePool) -> None:
    make_rule("pool_low", parameters={"percent": 10, "days": 14})
    StoragePool.objects.update(total_bytes=1000, free_bytes=500)
    engine.look()
    assert open_ones() == []
    StoragePool.objects.update(free_bytes=99)
    engine.look()
    assert open_ones() == [f"storagepool:{pool.pk}"]
    StoragePool.objects.update(free_bytes=500)
    engine.look()
    assert open_ones() == []
    today = timezone.now().date()
    for ago in range(5):  # a hundred a day: full in five
        StorageDay.objects.create(pool=pool, day=today - timedelta(days=ago), used_bytes=500 - 100 * ago)
    engine.look()
    assert open_ones() == [f"storagepool:{pool.pk}"]
    assert "full_on" in Incident.objects.open().get().facts


def test_a_changed_host_key(server: Server) -> None:
    make_rule("host_key_changed")
    Server.objects.create(name="new", address="192.0.2.9")  # not confirmed: nothing has changed
    Server.objects.filter(pk=server.pk).update(host_key_seen="ssh-ed25519 " + "A" * 68)
    engine.look()
    assert open_ones() == [f"server:{server.pk}"]


def test_many_wrong_passwords(client: Any, admin: User) -> None:
    make_rule("wrong_logins", parameters={"count": 3})
    for _try in range(3):
        assert open_ones() == []
        client.post("/login", {"username": "hunter2-in-the-wrong-field", "password": "x"})
        engine.look()
    assert open_ones() == ["site:logins"]
    assert "hunter2" not in str(Incident.objects.get().facts)


def test_no_worker_and_no_scheduler(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody can tell, because Redis is away, changes nothing."""
    make_rule("workers_gone")
    make_rule("scheduler_gone")
    engine.look()
    assert open_ones() == ["site:scheduler", "site:workers"]
    queue.scheduler_beats()
    with monkeypatch.context() as patch:

        def away(*_: object) -> None:
            raise NotKnown

        patch.setattr(WorkersGone, "find", away)
        engine.look(as_worker=True)
        assert open_ones() == ["site:workers"]
        engine.look()
        assert open_ones() == ["site:workers"]


def test_without_a_worker_the_scheduler_sends(plan: Plan, mail: Channel, post: Post) -> None:
    """Red without `send_alone`: that all workers are gone would be told by a worker."""
    make_rule("workers_gone", mail)
    engine.look()
    assert engine.send_alone() == 0  # one that is just started again comes first
    Job.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    assert engine.send_alone() == 1
    assert len(post.messages) == 1


def test_every_kind_has_a_sentence_for_nothing_and_a_form(db: None) -> None:
    assert len(EventKind.registry) >= 10
    for kind in EventKind.registry.values():
        assert kind.sentence({})
        kind.form()


# --- Scope ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["tags", "servers", "plans"])
def test_a_rule_is_about_its_scope(plan: Plan, scope: str) -> None:
    tag = Tag.objects.create(name="prod")
    other = Server.objects.create(name="db-1", address="192.0.2.8")
    rule = make_rule("backup_failed", scope=scope)
    {"tags": rule.tags, "servers": rule.servers, "plans": rule.plans}[scope].set(  # type: ignore[attr-defined]
        {"tags": [tag], "servers": [other], "plans": []}[scope]
    )
    other.tags.add(tag)
    ended(plan, "failed")
    engine.look()
    assert open_ones() == []
    plan.server.tags.add(tag)
    rule.servers.add(plan.server)
    rule.plans.add(plan)
    engine.look()
    assert open_ones() == [f"plan:{plan.pk}"]


@pytest.mark.parametrize("scope", ["tags", "servers", "plans"])
@pytest.mark.parametrize("event", sorted(EventKind.registry))
def test_every_kind_can_be_asked_within_every_scope(plan: Plan, event: str, scope: str) -> None:
    rule = make_rule(event, scope=scope)
    rule.tags.add(Tag.objects.create(name="prod"))
    engine.look_by(rule.pk)


def test_a_look_takes_few_queries_however_many_plans_there_are(plan: Plan, mail: Channel) -> None:
    make_rule("backup_failed", mail)
    make_rule("no_good_backup", mail)
    counts = []
    for more in (5, 500):
        Plan.objects.bulk_create(
            Plan(
                name=f"p{more}-{n}", server=plan.server, repository=plan.repository,
                last_outcome="failed" if n % 2 else "good",
            )
            for n in range(more)
        )  # fmt: skip
        engine.look()
        with CaptureQueriesContext(connection) as caught:
            engine.look()
        counts.append(len(caught))
    assert counts[0] == counts[1] <= 25
