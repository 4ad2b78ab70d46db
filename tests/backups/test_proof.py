"""Restore tests with real borgs: what holds, what does not, and what is no verdict; and that nothing stays behind."""

from __future__ import annotations

import io
import json
import os
import tarfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest

from backups import proofs, scratch
from backups.models import Archive, Plan, Repository, RestoreTest
from backups.runners import proof
from backups.runners.proof import ProveRestore
from jobs.models import Job
from jobs.runner import cancel, subject_key
from tests.backups.test_diff_real import BORGS, Repo
from tests.backups.tree import everything_in, make_tree
from tests.conftest import make_archive, run_now
from tests.small import SmallRepository

pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.usefixtures("one_thread", "tidy")]


@pytest.fixture(params=BORGS)
def repo(request: pytest.FixtureRequest, plan: Plan, tmp_path: Path, settings: Any) -> Repo:
    settings.BORG_PATH = BORGS[request.param]
    (tmp_path / "work").mkdir()
    return Repo(settings.BORG_PATH, plan, tmp_path / "work")


@pytest.fixture
def tidy(tmp_path: Path) -> Any:
    """However a restore test ends, it leaves nothing."""
    yield
    assert list((tmp_path / "scratch").glob("*")) == []


def proven(plan: Plan, **parameters: Any) -> tuple[Job, Plan]:
    plan = Plan.objects.with_scope().get(pk=plan.pk)
    job = run_now(ProveRestore.enqueue(plan, **{"archive": "newest", "files": None, **parameters}))
    plan.refresh_from_db()
    return job, plan


def said(job: Job) -> Any:
    return job.error, list(job.lines.values_list("message", flat=True))


# --- What holds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [0, 2000])
def test_what_comes_back_as_it_was_holds(repo: Repo, plan: Plan, tmp_path: Path, files: int) -> None:
    """Odd names, hard links, holes, a deep folder. Red without asking for what a hard link leads to."""
    make_tree(tmp_path / "work")
    repo.save("src")
    job, plan = proven(plan, files=files)
    assert job.status == "completed", said(job)
    test = RestoreTest.objects.get()
    tree = everything_in(tmp_path / "work" / "src")
    there = {b"src/" + path: content for path, (kind, content) in tree.items() if kind == "-"}
    assert (test.held, test.failure, test.everything) == (True, "", files == 0)
    assert (test.files, test.bytes) == (len(there), sum(map(len, there.values())))
    assert (plan.proved_at, plan.proof_failed) == (test.at, "")
    told = json.loads(test.evidence)
    lines = sorted(sha256(content).hexdigest().encode() + b"  " + path + b"\0" for path, content in there.items())
    assert told["digest"] == sha256(b"".join(lines)).hexdigest()
    assert told["borg_version"].startswith("borg 1.")
    assert (told["mismatches"], told["held"], told["files_not_compared"]) == ([], True, 0)
    assert proofs.is_signed(test.evidence, test.signature, test.public_key)
    # Red without `untrue`: borg 1.2 says it of every file that is well.
    assert not job.lines.filter(message__contains="never matched").exists()


def test_a_sample_has_as_many_files_as_were_asked_for(repo: Repo, plan: Plan, tmp_path: Path) -> None:
    make_tree(tmp_path / "work")
    repo.save("src")
    Plan.objects.update(proof_files=4)
    job, _ = proven(plan)
    assert job.status == "completed", said(job)
    assert RestoreTest.objects.get().files == 4
    assert json.loads(RestoreTest.objects.get().evidence)["files_chosen"] == 4


def test_many_paths_are_asked_for_in_parts(kept: SmallRepository, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "WORDS_BYTES", 50)
    job, _ = proven(plan)
    assert (job.status, RestoreTest.objects.get().files) == ("completed", 3), said(job)
    assert job.lines.filter(message__contains="borg extract", message__endswith="(1 paths)").count() == 3


def test_an_old_archive_may_be_tested_by_chance(
    kept: SmallRepository, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "randbelow", lambda number: number - 1)
    job, _ = proven(plan, archive="random")
    assert (job.status, RestoreTest.objects.get().name) == ("completed", "one"), said(job)


# --- What does not ----------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [0, 2000])
def test_a_flipped_byte_does_not_hold(kept: SmallRepository, plan: Plan, files: int) -> None:
    """And a check is started, which looks at the rest. Red where borg's own failure is no verdict."""
    proven(plan)  # reads the listing, and holds
    kept.flip_a_byte()
    job, plan = proven(plan, files=files)
    assert (job.status, job.cause) == ("failed", "disk"), said(job)
    test = RestoreTest.objects.first()
    assert test
    assert (test.held, test.failure, job.result["proof"]) == (False, job.error, test.pk)
    assert plan.proof_failed == job.error != ""
    assert json.loads(test.evidence)["held"] is False
    assert Job.objects.filter(type="check", status="pending").count() == 1


@pytest.mark.parametrize("files", [0, 2000])
def test_zeros_in_the_place_of_what_is_gone_do_not_hold(
    kept: SmallRepository, plan: Plan, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `borg check --repair` leaves them: borg itself extracts that with a warning."""
    monkeypatch.setenv("BORG_CHECK_I_KNOW_WHAT_I_AM_DOING", "YES")
    kept.flip_a_byte()
    with suppress(CalledProcessError):  # it ends with 1, for what it repaired
        kept.borg("check", "--repair", "::")
    for name, item in kept.archives().items():
        Archive.objects.filter(name=name).update(borg_id=item["id"])
    job, plan = proven(plan, files=files)
    assert job.status == "failed", said(job)
    told = json.loads(RestoreTest.objects.get().evidence)
    assert told["mismatch_count"] == 1
    assert told["mismatches"][0][1] == "parts of it are gone, and zeros in their place"


def test_another_content_does_not_hold(kept: SmallRepository, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that gives back something else than was written. Red without the second reading."""
    extract = ProveRestore._extract

    def spoilt(self: ProveRestore, archive: Archive, paths: list[str], into: Path, found: Any) -> None:
        extract(self, archive, paths, into, found)
        first, second, *_ = sorted(path for path in into.rglob("*") if path.is_file())
        first.write_bytes(b"x" * first.stat().st_size)
        second.unlink()

    monkeypatch.setattr(ProveRestore, "_extract", spoilt)
    job, plan = proven(plan)
    assert job.status == "failed"
    told = json.loads(RestoreTest.objects.get().evidence)
    whys = sorted(why for _, why in told["mismatches"])
    assert whys == ["it did not come back", "its content is another one"]
    assert plan.proof_failed.startswith("2 of 3 files did not come back as they were: ")


def test_a_sample_of_other_files_is_no_answer_to_a_failure(kept: SmallRepository, plan: Plan) -> None:
    """A check that found nothing is, or a test of everything."""
    archive = Archive.objects.latest("taken_at")
    for answer in ({"files": 0}, {"files": 2}):
        failed = RestoreTest.objects.create(
            plan=plan, server=plan.server, archive=archive, name="x", held=False, failure="Odd.", files=1, bytes=1,
            seconds=1, **proofs.signed({}),
        )  # fmt: skip
        Plan.objects.update(proof_failed="Odd.")
        _, found = proven(plan, files=2)
        assert found.proof_failed == "Odd."
        if answer["files"]:
            Repository.objects.update(checked_at=RestoreTest.objects.latest("at").at)
        job, found = proven(plan, **answer)
        assert (job.status, found.proof_failed) == ("completed", ""), (failed, said(job))


# --- What is no verdict -----------------------------------------------------------------------------


def no_verdict(job: Job, plan: Plan, sentence: str) -> None:
    assert (job.status, sentence in job.error) == ("failed", True), said(job)
    assert not RestoreTest.objects.exists()
    assert (plan.proof_failed, plan.proved_at) == ("", None)


def test_without_room_nothing_is_tested(kept: SmallRepository, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "SPARE_BYTES", 10**18)
    job, plan = proven(plan)
    no_verdict(job, plan, "1,000,000,000.0 GB are needed for it below ")


def test_a_repository_that_is_not_there_is_no_verdict(kept: SmallRepository, plan: Plan) -> None:
    kept.path.rename(kept.path.with_name("elsewhere"))
    job, plan = proven(plan)
    no_verdict(job, plan, "The repository is not where it was.")


def test_what_is_compacted_meanwhile_is_no_verdict(kept: SmallRepository, plan: Plan) -> None:
    """Red without looking for it: what goes while borg reads looks like damage."""
    proven(plan)
    RestoreTest.objects.all().delete()
    Plan.objects.update(proved_at=None)
    kept.flip_a_byte()
    Job.objects.create(type="compact", repository=plan.repository, status="running")
    job, plan = proven(plan)
    assert (job.status, job.is_tried_again) == ("pending", True), said(job)
    assert "compacted, while it was tested" in job.error
    assert not RestoreTest.objects.exists()
    assert plan.proof_failed == ""


def test_a_cancel_leaves_nothing(
    kept: SmallRepository, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = proof.Comparison.look

    def cancelled(self: Any, *args: Any) -> None:
        assert list((tmp_path / "scratch").glob("*/files/**/file-*"))
        cancel(self._runner.job)
        self._runner.log.flush()
        look(self, *args)

    monkeypatch.setattr(proof.Comparison, "look", cancelled)
    job, plan = proven(plan)
    assert job.status == "cancelled", said(job)
    assert (plan.proof_failed, plan.proved_at) == ("", None)


# --- Archives of an enemy ---------------------------------------------------------------------------


def hostile(repo: Repo, entries: list[tuple[str, bytes, str]]) -> None:
    """An archive with these paths: kind, and content or where the link leads. No `borg create` makes such a thing."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for kind, content, path in entries:
            entry = tarfile.TarInfo(path)
            if kind != "-":
                entry.type, entry.linkname = tarfile.SYMTYPE if kind == "l" else tarfile.DIRTYPE, content.decode()
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    (repo._folder / "hostile.tar").write_bytes(packed.getvalue())
    repo.borg("import-tar", f"{repo.path}::hostile", "hostile.tar")
    told = json.loads(repo.borg("list", "--json", str(repo.path)))["archives"]
    make_archive(repo._plan, name="hostile", borg_id=told[0]["id"])


@pytest.mark.parametrize("files", [0, 2000])
def test_a_link_in_an_archive_leads_nowhere(repo: Repo, plan: Plan, tmp_path: Path, files: int) -> None:
    """Debian's borg 1.2.4 follows it: red, with all files, without the look before."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "passwd").write_text("root")
    hostile(repo, [("-", b"fine", "fine"), ("l", os.fsencode(outside), "x"), ("-", b"evil", "x/passwd")])
    job, plan = proven(plan, files=files)
    assert [path.name for path in outside.iterdir()] == ["passwd"]
    assert (outside / "passwd").read_text() == "root"
    assert job.status == "failed", said(job)
    assert "out of the folder" in plan.proof_failed


@pytest.mark.parametrize("files", [0, 2000])
def test_a_link_that_becomes_a_folder_leads_nowhere(repo: Repo, plan: Plan, tmp_path: Path, files: int) -> None:
    """The listing shows the folder alone: all of it is not extracted, single files are."""
    outside = tmp_path / "outside"
    outside.mkdir()
    hostile(repo, [("l", os.fsencode(outside), "x"), ("-", b"evil", "x/passwd"), ("d", b"", "x"), ("-", b"a", "y")])
    job, plan = proven(plan, files=files)
    assert list(outside.iterdir()) == []
    if files:
        assert job.status == "completed", said(job)
    else:
        no_verdict(job, plan, "has some paths several times")


# --- What is left behind ----------------------------------------------------------------------------


def test_what_a_killed_worker_left_goes_and_nothing_else(plan: Plan, tmp_path: Path, settings: Any) -> None:
    settings.SCRATCH_DIR = tmp_path / "other"
    jobs = {
        status: Job.objects.create(type="proof", subject=subject_key(plan), status=status)
        for status in ("running", "failed")
    }
    folders = [str(jobs["running"].pk), str(jobs["failed"].pk), "0" * 8 + "-0000-4000-8000-" + "0" * 12, "mine"]
    for name in folders:
        (settings.SCRATCH_DIR / name / "files").mkdir(parents=True)
        (settings.SCRATCH_DIR / name / "files" / "link").symlink_to(tmp_path)
        (settings.SCRATCH_DIR / name / "files").chmod(0o500)
    assert scratch.sweep() == 2
    assert sorted(path.name for path in settings.SCRATCH_DIR.iterdir()) == sorted([folders[0], "mine"])
    assert tmp_path.is_dir()
