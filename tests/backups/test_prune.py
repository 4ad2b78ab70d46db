"""Deleting archives: by rule and by hand, by name, and only what was meant."""

import json
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEntry, User
from backups import catalog
from backups.borg import commands
from backups.models import Archive, Plan, Repository, RetentionPolicy
from backups.reconcile import Comparison
from backups.retention import announced
from backups.runners.create import RunBackup
from backups.runners.delete import DeleteArchive
from backups.runners.prune import PruneArchives
from jobs.errors import Cancelled, Failure
from jobs.models import Job
from jobs.runner import Refused
from servers.ssh.command import Command
from tests.backups.replay import REPOSITORY_ID, creates, entry, error
from tests.conftest import make_archive, run_now
from tests.fakes import Answer, FakeMachine
from tests.small import SmallRepository

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread", "counted")]
real_borg = pytest.mark.e2e


@pytest.fixture
def keep_one(plan: Plan) -> RetentionPolicy:
    """Of each plan only the newest archive stays."""
    policy = RetentionPolicy.objects.create(
        name="one", keep_within="", keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0
    )
    Plan.objects.update(retention=policy)
    plan.refresh_from_db()
    return policy


class PretendBorg:
    """Lists and deletes what is in `there`, as a borg on our side does."""

    def __init__(self) -> None:
        self.there: dict[str, tuple[str, str]] = {}  # ids and starts, by name
        self.deletions: list[list[str]] = []  # what it was told to delete, command by command
        self.after_each_delete: Callable[[], object] = lambda: None
        self.skips: set[str] = set()  # what it leaves where it is, without a word
        self.machine = FakeMachine(list=self._list, delete=self._delete)

    def add(self, name: str) -> None:
        self.there[name] = (name.encode().hex().rjust(64, "f"), "2026-03-09T02:00:00.000000")

    def _list(self, command: Command) -> Answer:
        archives = [{"name": name, "id": borg_id, "start": start} for name, (borg_id, start) in self.there.items()]
        told = {"archives": archives, "encryption": {"mode": "repokey-blake2"}, "repository": {"id": REPOSITORY_ID}}
        return Answer(json.dumps(told).encode())

    def _delete(self, command: Command) -> Answer:
        names = list(command.argv[command.argv.index("--") + 2 :])
        self.deletions.append(names)
        for name in set(names) - self.skips:
            del self.there[name]
        self.after_each_delete()
        return Answer()


@pytest.fixture
def borg(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> PretendBorg:
    """One that has the archives one, two and three of the plan, as our record has."""
    borg = PretendBorg()
    for number, name in enumerate(("one", "two", "three")):
        start = timezone.now().replace(microsecond=0) - timedelta(days=3 - number)
        archive = make_archive(plan, name=name, start=start)
        borg.there[name] = (archive.borg_id, start.replace(tzinfo=None).isoformat(timespec="microseconds"))
    for module in ("base", "delete"):
        monkeypatch.setattr(f"backups.runners.{module}.Local", lambda: borg.machine)
    return borg


def pruned(plan: Plan, **parameters: Any) -> Job:
    return run_now(PruneArchives.enqueue(plan, **parameters))


def recorded() -> set[str]:
    return set(Archive.objects.values_list("name", flat=True))


def words(job: Job) -> str:
    return "\n".join(job.lines.values_list("message", flat=True))


# --- By rule ----------------------------------------------------------------------------------


@real_borg
def test_what_the_rules_do_not_keep_is_deleted_and_struck_off(
    plan: Plan, keep_one: RetentionPolicy, kept: SmallRepository, admin: User
) -> None:
    one = Archive.objects.get(name="one")
    catalog.build(one, [entry(b"etc/")])
    job = pruned(plan, user=admin)
    assert (job.status, job.result) == ("completed", {"deleted": ["two", "one"], "kept": 1}), job.error
    assert set(kept.archives()) == recorded() == {"three"}
    assert not catalog.has(one)
    assert Repository.objects.get().deleted_at is not None
    trail = AuditEntry.objects.get(action="archives.deleted")
    assert (trail.user, trail.target, trail.detail["archives"]) == (admin, "web-1", ["two", "one"])
    assert "goes   one" in words(job)
    assert "stays  three  last #1" in words(job)
    kept.borg("extract", "--dry-run", "::three")


def test_a_plan_keeps_when_retention_last_ran_well(plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg) -> None:
    def tidied_at() -> Any:
        return Plan.objects.values_list("tidied_at", flat=True).get(pk=plan.pk)

    assert pruned(plan, at_most=1).status == "failed"
    assert tidied_at() is None
    job = pruned(plan)
    assert job.status == "completed"
    assert tidied_at() == job.completed_at


def test_nothing_to_delete_deletes_nothing(plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg) -> None:
    RetentionPolicy.objects.update(keep_last=3)
    job = pruned(plan)
    assert (job.status, job.result) == ("completed", {"deleted": [], "kept": 3})
    assert "borg delete" not in words(job)
    assert Repository.objects.get().deleted_at is None


@pytest.mark.parametrize("change", [{"pinned": True}, {"suspicion": "Odd."}, {"quarantine": "Odd."}])
def test_what_is_spared_is_never_named_to_borg(
    plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg, change: dict[str, Any]
) -> None:
    Archive.objects.filter(name="one").update(**change)
    assert pruned(plan).result == {"deleted": ["two"], "kept": 2}
    assert borg.deletions == [["two"]]
    assert set(borg.there) == {"one", "three"}


def test_the_archives_of_another_plan_in_the_same_repository_stay(
    plan: Plan, second_plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg
) -> None:
    Archive.objects.exclude(name="three").update(plan=second_plan)
    assert pruned(plan).result == {"deleted": [], "kept": 1}
    second_plan.refresh_from_db()
    assert pruned(second_plan).result == {"deleted": ["one"], "kept": 1}
    assert set(borg.there) == {"two", "three"}


def test_if_more_would_go_than_may_none_goes_and_a_person_may_allow_it(
    plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg
) -> None:
    RetentionPolicy.objects.update(most_deletions=1)
    job = pruned(plan)
    assert job.status == "failed"
    assert job.error == "2 archives would go, more than the 1 that may go at once: none went."
    assert "retention page" in job.advice
    assert len(borg.there) == 3
    assert pruned(plan, at_most=2).status == "completed"
    assert set(borg.there) == {"three"}


def test_many_names_go_in_several_commands(
    plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backups.runners.delete.NAMES_AT_ONCE", 1)
    assert pruned(plan).status == "completed"
    assert borg.deletions == [["two"], ["one"]]
    assert set(borg.there) == {"three"}


def test_a_frozen_repository_keeps_everything(plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg) -> None:
    """An archive that nobody asked for lies there when the job begins."""
    job = PruneArchives.enqueue(plan)
    borg.add("forged")
    run_now(job)
    assert job.status == "failed"
    assert (borg.deletions, len(borg.there)) == ([], 4)
    with pytest.raises(Refused, match="frozen"):
        PruneArchives.enqueue(Plan.objects.get(pk=plan.pk))


def test_what_became_suspicious_while_it_waited_stops_it(
    plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg
) -> None:
    job = PruneArchives.enqueue(plan)
    Archive.objects.filter(name="three").update(suspicion="Odd.")
    run_now(job)
    assert (job.status, borg.deletions) == ("failed", [])
    assert job.error.startswith("The newest archive of the plan files is suspicious")


def test_what_was_pinned_while_it_waited_stays(plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg) -> None:
    job = PruneArchives.enqueue(plan)
    Archive.objects.filter(name="one").update(pinned=True)
    run_now(job)
    assert set(borg.there) == {"one", "three"}


# --- A borg, or somebody, that does something else --------------------------------------------


def test_an_archive_that_goes_along_is_named(plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg) -> None:
    borg.after_each_delete = lambda: borg.there.pop("three")
    job = pruned(plan)
    assert job.status == "failed"
    assert job.error == "Gone from the repository although nobody asked for it: three."
    assert "Nothing is lost for good" in job.advice
    assert recorded() == {"three"}  # on record, so that the next comparison freezes the repository
    assert job.result == {"deleted": ["two", "one"]}


def test_an_archive_that_appears_meanwhile_is_named(plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg) -> None:
    borg.after_each_delete = lambda: borg.add("forged")
    assert pruned(plan).error == "There now, and not before: forged."


def test_an_archive_that_borg_did_not_delete_stays_on_record(
    plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg
) -> None:
    borg.skips = {"one"}
    job = pruned(plan)
    assert job.error == "Still there although borg was to delete it: one."
    assert set(borg.there) == recorded() == {"one", "three"}


def test_a_name_that_stands_for_another_archive_is_not_deleted(
    plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who may write to the repository exchanges two names after we have compared it."""

    def exchange(*_: Any) -> Comparison:
        for old, new in (("one", "x"), ("three", "one"), ("x", "three")):
            borg.there[new] = borg.there.pop(old)
        return Comparison()

    monkeypatch.setattr("backups.runners.prune.compare", exchange)
    job = pruned(plan)
    assert job.error.endswith("is not in the repository as we recorded it: nothing was deleted.")
    assert (borg.deletions, len(borg.there)) == ([], 3)


@pytest.mark.parametrize("end", [Failure("No space."), Cancelled()])
def test_an_end_in_the_middle_leaves_record_and_repository_alike(
    plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg, monkeypatch: pytest.MonkeyPatch, end: Exception
) -> None:
    def stop() -> None:
        raise end

    monkeypatch.setattr("backups.runners.delete.NAMES_AT_ONCE", 1)
    borg.after_each_delete = stop
    job = pruned(plan)
    assert job.status == ("failed" if isinstance(end, Failure) else "cancelled")
    assert job.result == {"deleted": ["two"]}
    assert set(borg.there) == recorded() == {"one", "three"}
    assert announced(plan.repository) == set()


def test_a_worker_that_dies_after_the_deletion_leaves_word_of_it(
    plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    ids = set(Archive.objects.exclude(name="three").values_list("borg_id", flat=True))
    borg.after_each_delete = die
    with pytest.raises(KeyboardInterrupt):
        pruned(plan)
    assert announced(plan.repository) == ids
    assert recorded() == {"one", "two", "three"}


def test_a_borg_that_cannot_delete_says_why(plan: Plan, keep_one: RetentionPolicy, borg: PretendBorg) -> None:
    borg.machine.answers["delete"] = Answer(stderr=[error("Failed to create/acquire the lock.", "LockTimeout")], code=2)
    job = pruned(plan)
    assert (job.status, job.cause) == ("failed", "lock")
    assert job.result == {"deleted": []}
    assert recorded() == {"one", "two", "three"}


def test_borg_is_never_told_to_delete_a_repository() -> None:
    access = commands.Access("/srv/borg/web-1")
    for names in ([], [""], ["one", ""]):
        with pytest.raises(ValueError, match="needs the names"):
            commands.delete(access, names)


@real_borg
def test_a_name_is_only_a_name_to_borg(tmp_path: Path, kept: SmallRepository, plan: Plan) -> None:
    """Names that borg would take for placeholders or options elsewhere on its command line."""
    names = ["-rf", "a b"]
    for old, name in zip(("one", "two"), names, strict=True):
        kept.borg("rename", f"::{old}", "--", name)
    access = commands.Access(str(kept.path), plan.repository.passphrase(), base_dir=str(tmp_path / "base"))
    command = commands.delete(access, [*names, "{now}"])
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", **command.env}
    done = subprocess.run(command.argv, env=env, input=command.stdin, capture_output=True, timeout=60, check=False)
    assert b"{now}" in done.stderr  # not found, and not taken for the time
    assert set(kept.archives()).isdisjoint(names)
    assert len(kept.archives()) == 1


# --- When it may not start --------------------------------------------------------------------


def test_it_is_refused_in_words(plan: Plan, keep_one: RetentionPolicy) -> None:
    for change, sentence in (
        ({"state": "creating"}, "still being made"), ({"damage": "A hole."}, "damaged"), ({"frozen": "Odd."}, "frozen"),
        ({}, "no good archive"),
    ):  # fmt: skip
        Repository.objects.update(**({"state": "ready", "damage": "", "frozen": ""} | change))
        with pytest.raises(Refused, match=sentence):
            PruneArchives.enqueue(Plan.objects.get(pk=plan.pk))
    make_archive(plan)
    assert PruneArchives.enqueue(plan).plan == plan
    with pytest.raises(Refused, match="already waiting"):
        PruneArchives.enqueue(plan)


def test_it_holds_the_repository_as_a_backup_does(plan: Plan, keep_one: RetentionPolicy) -> None:
    make_archive(plan)
    job = PruneArchives.enqueue(plan)
    assert PruneArchives.holds(job) == plan.repository.hold == RunBackup.holds(job)


# --- After a backup ---------------------------------------------------------------------------


def backed_up(plan: Plan, machine: FakeMachine, answer: Any) -> Job:
    machine.answers["create"] = answer
    return run_now(RunBackup.enqueue(plan))


def test_a_good_backup_is_followed_by_retention(plan: Plan, keep_one: RetentionPolicy, machine: FakeMachine) -> None:
    make_archive(plan)
    assert backed_up(plan, machine, creates()).status == "completed"
    job = Job.objects.get(type="prune")
    assert (job.status, job.trigger, job.plan, job.user) == ("pending", "system", plan, None)


def test_a_suspicious_backup_is_not(plan: Plan, keep_one: RetentionPolicy, machine: FakeMachine) -> None:
    make_archive(plan)
    make_archive(plan)
    assert backed_up(plan, machine, creates(files=0, original=0)).status == "completed"
    assert not Job.objects.filter(type="prune").exists()


def test_a_failed_backup_is_not(plan: Plan, keep_one: RetentionPolicy, machine: FakeMachine) -> None:
    make_archive(plan)
    make_archive(plan)
    assert backed_up(plan, machine, Answer(code=2)).status == "failed"
    assert not Job.objects.filter(type="prune").exists()


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_whatever_it_left_behind_only_a_completed_one_is(
    plan: Plan, keep_one: RetentionPolicy, machine: FakeMachine, status: str
) -> None:
    make_archive(plan)
    make_archive(plan)
    RunBackup.ended(Job.objects.create(type="backup", plan=plan, status=status, result={"suspicion": ""}))
    assert not Job.objects.filter(type="prune").exists()


def test_a_cancelled_backup_is_not(plan: Plan, keep_one: RetentionPolicy, machine: FakeMachine) -> None:
    make_archive(plan)
    make_archive(plan)
    job = RunBackup.enqueue(plan)
    job.request_cancel()
    assert run_now(job).status == "cancelled"
    assert not Job.objects.filter(type="prune").exists()


def test_nothing_starts_when_nothing_would_go(plan: Plan, keep_one: RetentionPolicy, machine: FakeMachine) -> None:
    assert backed_up(plan, machine, creates()).status == "completed"
    assert not Job.objects.filter(type="prune").exists()


def test_a_frozen_repository_does_not_fail_the_backup(
    plan: Plan, keep_one: RetentionPolicy, machine: FakeMachine
) -> None:
    make_archive(plan)
    Repository.objects.update(frozen="Odd.")
    plan.repository.refresh_from_db()
    assert backed_up(plan, machine, creates()).status == "completed"
    assert not Job.objects.filter(type="prune").exists()


# --- By hand ----------------------------------------------------------------------------------


@real_borg
def test_one_archive_is_deleted_by_hand(plan: Plan, kept: SmallRepository) -> None:
    job = run_now(DeleteArchive.enqueue(Archive.objects.get(name="two")))
    assert (job.status, job.result) == ("completed", {"deleted": ["two"]}), job.error
    assert (job.plan, job.repository) == (plan, plan.repository)
    assert set(kept.archives()) == recorded() == {"one", "three"}


def test_what_must_stay_is_not_deleted_by_hand(plan: Plan) -> None:
    old, last = make_archive(plan), make_archive(plan)
    with pytest.raises(Refused, match="last good archive"):
        DeleteArchive.enqueue(last)
    Archive.objects.filter(pk=old.pk).update(pinned=True)
    with pytest.raises(Refused, match="pinned"):
        DeleteArchive.enqueue(Archive.objects.get(pk=old.pk))
    Archive.objects.filter(pk=old.pk).update(pinned=False)
    old.refresh_from_db()
    restore = Job.objects.create(type="restore", subject=f"archive:{old.pk}", repository=plan.repository)
    with pytest.raises(Refused, match="A job is using this archive") as refused:
        DeleteArchive.enqueue(old)
    assert refused.value.job == restore
    restore.request_cancel()
    assert DeleteArchive.enqueue(old).repository == plan.repository
    with pytest.raises(Refused, match="already waiting"):
        DeleteArchive.enqueue(old)


def test_what_was_pinned_while_the_deletion_waited_stays(plan: Plan, borg: PretendBorg) -> None:
    job = DeleteArchive.enqueue(Archive.objects.get(name="one"))
    Archive.objects.filter(name="one").update(pinned=True)
    run_now(job)
    assert (job.status, job.error, borg.deletions) == ("failed", "The archive is pinned. Unpin it first.", [])
