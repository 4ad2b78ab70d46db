"""Renaming an archive, with real borgs: our record follows borg's new id, whatever comes in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from backups import catalog, diffs
from backups.borg import commands
from backups.models import Archive, Mount, Plan, Repository
from backups.runners import rename
from backups.runners.compare import CompareRepository
from backups.runners.index import IndexArchive
from backups.runners.rename import RenameArchive, RenameForm
from jobs.errors import Cancelled
from jobs.models import Job
from jobs.periodic import lose
from jobs.runner import Refused
from tests.backups.replay import entry
from tests.conftest import make_archive, run_now
from tests.small import SmallRepository

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread", "counted")]
real_borg = pytest.mark.e2e
BORGS = {name: str(django_settings.BASE_DIR / f".borg/{name}/bin/borg") for name in ("1.2", "1.4")}


@pytest.fixture(autouse=True)
def new_borg(settings: Any) -> None:
    """One that may rename, which Debian 12's may not."""
    settings.BORG_PATH = BORGS["1.4"]


def two() -> Archive:
    found: Archive = Archive.objects.get(name="two")
    return found


def as_listed(kept: SmallRepository) -> set[tuple[str, str]]:
    return {(name, item["id"]) for name, item in kept.archives().items()}


def on_record() -> set[tuple[str, str]]:
    return set(Archive.objects.filter(quarantine="", vanished_at=None).values_list("name", "borg_id"))


def proves_well(kept: SmallRepository, plan: Plan) -> None:
    """Borg and our record say the same, and so says a comparison."""
    job = run_now(CompareRepository.enqueue(Repository.objects.get()))
    assert (job.status, Repository.objects.get().frozen) == ("completed", ""), job.error
    assert as_listed(kept) == on_record()
    assert Archive.objects.count() == 3


# --- It works ---------------------------------------------------------------------------------


@real_borg
@pytest.mark.parametrize("borg", BORGS)
def test_the_archive_is_the_same_one_with_another_name(
    plan: Plan, kept: SmallRepository, admin: User, settings: Any, borg: str
) -> None:
    settings.BORG_PATH = BORGS[borg]
    archive, other = two(), Archive.objects.get(name="one")
    catalog.build(archive, [entry(b"etc/")])
    diffs.build(other, archive, [], lambda _: [])
    job = run_now(RenameArchive.enqueue(archive, user=admin, name="before:the=move@é"))
    assert (job.status, job.result, job.made) == ("completed", {"name": "before:the=move@é"}, []), job.error
    renamed = Archive.objects.get(pk=archive.pk)
    assert renamed.name == "before:the=move@é"
    assert renamed.borg_id != archive.borg_id
    with catalog.Catalog(renamed) as listing:
        assert listing.find(b"etc")
    diffs.Diff(other, renamed)
    entry_ = AuditEntry.objects.get(action="archive.renamed")
    assert (entry_.user, entry_.detail["before"], entry_.detail["after"]) == (admin, "two", "before:the=move@é")
    proves_well(kept, plan)
    for program in BORGS.values():  # another one believes it too
        settings.BORG_PATH = program
        assert run_now(IndexArchive.enqueue(renamed)).status == "completed"


@real_borg
@pytest.mark.parametrize("borg", BORGS)
def test_a_name_that_looks_like_a_placeholder_is_a_name(
    plan: Plan, kept: SmallRepository, settings: Any, borg: str
) -> None:
    """An imported archive may have one. Red without commands.literally: borg fills it in, and finds nothing."""
    settings.BORG_PATH = BORGS[borg]
    kept.borg("create", "--timestamp=2026-03-05T02:00:00", "::{{hostname}}", str(kept.path / "README"))
    start = datetime(2026, 3, 5, 2, tzinfo=UTC)
    archive = make_archive(plan, name="{hostname}", borg_id=kept.archives()["{hostname}"]["id"], start=start)
    job = run_now(RenameArchive.enqueue(archive, name="four"))
    assert job.status == "completed", job.error
    assert as_listed(kept) == on_record()


@real_borg
def test_a_borg_that_would_make_it_unreadable_renames_nothing(
    plan: Plan, kept: SmallRepository, settings: Any, tmp_path: Path
) -> None:
    """Seen of 1.2.4: 1.2.9 and 1.4.5 say “Archive authentication did not verify” of what it has renamed."""
    old = tmp_path / "old-borg"
    old.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo borg 1.2.5 || exec {BORGS["1.2"]} "$@"\n')
    old.chmod(0o755)
    settings.BORG_PATH = str(old)
    job = run_now(RenameArchive.enqueue(two(), name="second"))
    assert (job.status, job.cause) == ("failed", "borg")
    assert job.error == "borg 1.2.5 would make the archive unreadable for newer borgs: nothing was renamed."
    assert "two" in kept.archives()


# --- Cut off ----------------------------------------------------------------------------------


def crash_after_borg(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Borg has renamed, and then the worker is no more."""

    def crash(*_: Any) -> None:
        raise error

    monkeypatch.setattr(rename, "follow_renamed", crash)


class PowerCut(BaseException):
    pass


def killed(job: Job) -> Job:
    """Do it in a worker that dies in the middle; the row is left as that leaves it."""
    with pytest.raises(PowerCut):
        run_now(job)
    job.refresh_from_db()
    assert job.status == "running"
    return job


@real_borg
def test_a_comparison_knows_what_a_worker_that_died_had_renamed(
    plan: Plan, kept: SmallRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red without reconcile._renamings: the old one is gone, the new one put aside, the repository frozen."""
    archive = two()
    catalog.build(archive, [entry(b"etc/")])
    crash_after_borg(monkeypatch, PowerCut())
    job = killed(RenameArchive.enqueue(archive, name="second"))
    assert ("two", archive.borg_id) in on_record()
    assert "second" in kept.archives()
    Job.objects.filter(pk=job.pk).update(holds=None)
    proves_well(kept, plan)
    assert Archive.objects.get(pk=archive.pk).name == "second"
    with catalog.Catalog(Archive.objects.get(pk=archive.pk)) as listing:
        assert listing.find(b"etc")
    assert AuditEntry.objects.filter(action="archive.renamed").count() == 1
    assert Job.objects.get(pk=job.pk).made == []


@real_borg
def test_the_next_attempt_finds_it_done(plan: Plan, kept: SmallRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red with one attempt alone, and if a second one asks borg again: there is no “two” any more."""
    with monkeypatch.context() as patch:
        crash_after_borg(patch, PowerCut())
        job = killed(RenameArchive.enqueue(two(), name="second"))
    assert lose(job, "its process was killed.")
    Job.objects.filter(pk=job.pk).update(not_before=None)
    job.refresh_from_db()
    assert job.status == "pending"
    assert run_now(job).status == "completed", job.error
    proves_well(kept, plan)
    assert Archive.objects.filter(name="second").exists()


@real_borg
def test_one_that_died_before_borg_did_it_has_renamed_nothing(
    plan: Plan, kept: SmallRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = two()
    with monkeypatch.context() as patch:
        patch.setattr(commands, "rename", cut)
        job = killed(RenameArchive.enqueue(archive, name="second"))
    assert job.made == ["second"]
    Job.objects.filter(pk=job.pk).update(holds=None)
    proves_well(kept, plan)
    assert Archive.objects.get(pk=archive.pk).name == "two"


def cut(*_: Any) -> None:
    raise PowerCut


@real_borg
def test_a_cancel_after_the_deed_is_told_and_our_record_is_right(
    plan: Plan, kept: SmallRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red without _settle after a cancel: our record has the old name until somebody compares."""
    asked = RenameArchive.ask

    def cancelled(runner: RenameArchive, command: Any, name: str) -> Any:
        ran = asked(runner, command, name)
        if name == "rename":
            raise Cancelled
        return ran

    monkeypatch.setattr(RenameArchive, "ask", cancelled)
    job = run_now(RenameArchive.enqueue(two(), name="second"))
    assert job.status == "cancelled"
    assert as_listed(kept) == on_record()


@real_borg
@pytest.mark.parametrize(
    "spoil",
    [
        lambda kept: kept.borg("create", "::forged", str(kept.path / "README")),
        lambda kept: kept.borg("delete", "::two"),
        lambda kept: kept.borg("rename", "::two", "somebody-else-s"),
    ],
    ids=["a new one", "one is gone", "another name"],
)
def test_what_somebody_else_did_is_still_seen(
    plan: Plan, kept: SmallRepository, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[SmallRepository], Any]
) -> None:
    """A renaming that did not come to it excuses nothing."""
    with monkeypatch.context() as patch:
        patch.setattr(commands, "rename", cut)
        job = killed(RenameArchive.enqueue(two(), name="second"))
    Job.objects.filter(pk=job.pk).update(holds=None)
    spoil(kept)
    run_now(CompareRepository.enqueue(Repository.objects.get()))
    assert Repository.objects.get().frozen


@real_borg
def test_another_archive_of_that_name_and_another_date_is_not_ours(
    plan: Plan, kept: SmallRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red if the name alone is believed: what a server forged would be our archive."""
    with monkeypatch.context() as patch:
        patch.setattr(commands, "rename", cut)
        job = killed(RenameArchive.enqueue(two(), name="second"))
    Job.objects.filter(pk=job.pk).update(holds=None)
    kept.borg("delete", "::two")
    kept.borg("create", "::second", str(kept.path / "README"))
    run_now(CompareRepository.enqueue(Repository.objects.get()))
    assert Archive.objects.get(name="two").vanished_at is not None
    assert Archive.objects.get(name="second").quarantine
    assert Repository.objects.get().frozen


# --- It is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", " a", "a ", "a/b", "a::b", "{now}", "{hostname}", "{{x}}", "c{", "a\x01", "a\nb", "a\n", "a\x00b",
     "-rf", "--option", ".hidden", "x.checkpoint", "x.checkpoint.3", "a\u202eb", "a\u00a0b", "*", "a?b", "$(id)", "a'b",
     'a"b', "a\\b", "☃", "x" * 201],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_in_words(api_admin: APIClient, as_admin: Client, plan: Plan, name: str) -> None:
    archive = make_archive(plan)
    answer = api_admin.post(f"/api/archives/{archive.pk}/rename", {"name": name}, format="json")
    assert answer.status_code == 400, name
    assert list(answer.json()["error"]["fields"]) == ["name"]
    assert as_admin.post(f"/jobs/start/rename/{archive.pk}", {"name": name}).status_code == 400
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "name", ["a", "2026", "été", "a.b-c_d", "before:move", "x" * 200, "checkpoint", "a.checkpoints"]
)
def test_a_name_is_a_name(name: str) -> None:
    assert RenameForm({"name": name}).is_valid()


def test_a_name_that_is_taken_is_refused(api_admin: APIClient, plan: Plan) -> None:
    archive, other = make_archive(plan), make_archive(plan)
    for name, why in ((other.name, "has an archive of this name"), (archive.name, "its name already")):
        answer = api_admin.post(f"/api/archives/{archive.pk}/rename", {"name": name}, format="json")
        assert answer.status_code == 409
        assert why in answer.json()["error"]["message"]


@real_borg
def test_a_name_that_was_taken_meanwhile_is_refused(plan: Plan, kept: SmallRepository) -> None:
    job = RenameArchive.enqueue(two(), name="second")
    kept.borg("create", "::second", str(kept.path / "README"))
    run_now(job)
    assert job.status == "failed"
    assert "two" in kept.archives()
    assert Archive.objects.filter(name="two").exists()


def test_what_is_in_use_keeps_its_name(plan: Plan) -> None:
    archive = make_archive(plan)
    job = Job.objects.create(type="download", subject=f"archive:{archive.pk}", repository=plan.repository)
    with pytest.raises(Refused, match="A job is using") as refused:
        RenameArchive.enqueue(archive, name="new")
    assert refused.value.job == job
    job.request_cancel()
    mount = Mount.objects.create(archive=archive, place="default", machine="web", path="/x", expires_at=archive.end)
    with pytest.raises(Refused, match="mounted"):
        RenameArchive.enqueue(archive, name="new")
    mount.delete()
    for odd in ({"quarantine": "Odd."}, {"vanished_at": archive.end, "quarantine": ""}):
        Archive.objects.filter(pk=archive.pk).update(**odd)
        archive.refresh_from_db()
        with pytest.raises(Refused, match="keeps its name"):
            RenameArchive.enqueue(archive, name="new")
    Archive.objects.filter(pk=archive.pk).update(vanished_at=None)
    Repository.objects.update(frozen="Odd.")
    with pytest.raises(Refused, match="frozen"):
        RenameArchive.enqueue(Archive.objects.select_related("repository").get(pk=archive.pk), name="new")


def test_an_archive_that_was_deleted_meanwhile_is_a_sentence(plan: Plan) -> None:
    archive = make_archive(plan)
    job = RenameArchive.enqueue(archive, name="new")
    Archive.objects.all().delete()
    plan.repository.note_archives()
    assert run_now(job).error == "The archive that this job was for has been deleted."


def test_who_may_not_manage_renames_nothing(api_operator: APIClient, as_operator: Client, archive: Archive) -> None:
    assert api_operator.post(f"/api/archives/{archive.pk}/rename", {"name": "x"}).status_code == 403
    assert as_operator.post(f"/jobs/start/rename/{archive.pk}", {"name": "x"}).status_code == 403
