"""Locks left behind: broken with proof, and only with it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backups import locks
from backups.locks import Verdict
from backups.models import Plan, Repository
from backups.runners.check import CheckRepository
from backups.runners.unlock import BreakLock, UnlockForm
from jobs.models import Job
from tests.conftest import run_now
from tests.small import PASSPHRASE, SmallRepository

ELSEWHERE = "elsewhere.example.org@123456789"


def parts() -> tuple[str, str, str]:
    found = locks.OUR_HOST.fullmatch(locks.host_id())
    assert found
    return found["machine"], found["boot"], found["namespace"]


def host(**changes: str) -> str:
    machine, boot, namespace = parts()
    values = {"machine": machine, "boot": boot, "namespace": namespace, **changes}
    return "phpborg-{machine}@{boot}-{namespace}".format(**values)


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def borg_alive() -> Iterator[int]:
    """A process that looks like a borg."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "borg serve"]) as process:
        yield process.pid
        process.kill()


def lock(path: Path, host: str, pid: int) -> None:
    folder = path / "lock.exclusive"
    folder.mkdir(parents=True)
    (folder / f"{host}.{pid}-7f").touch()


def verdict(path: Path) -> Verdict:
    (holder,) = locks.holders(path)
    return holder.verdict


def test_no_lock_has_no_holder(tmp_path: Path) -> None:
    assert locks.holders(tmp_path) == []
    (tmp_path / "lock.exclusive").mkdir()
    (tmp_path / "lock.exclusive" / "nonsense").touch()
    assert locks.holders(tmp_path) == []


def test_our_own_dead_process_is_dead(tmp_path: Path, dead: int) -> None:
    lock(tmp_path, host(), dead)
    assert verdict(tmp_path) == Verdict.DEAD


def test_our_own_living_borg_is_alive(tmp_path: Path, borg_alive: int) -> None:
    lock(tmp_path, host(), borg_alive)
    assert verdict(tmp_path) == Verdict.ALIVE


def test_a_process_that_is_just_starting_is_not_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backups.locks._command_of", lambda _: "")
    lock(tmp_path, host(), os.getpid())
    assert verdict(tmp_path) == Verdict.ALIVE


def test_another_program_under_that_number_is_no_holder(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
            pass
        lock(tmp_path, host(), process.pid)
        assert verdict(tmp_path) == Verdict.DEAD
        process.kill()


def test_a_process_from_before_this_boot_is_dead(tmp_path: Path) -> None:
    lock(tmp_path, host(boot="0" * 12), os.getpid())
    assert verdict(tmp_path) == Verdict.DEAD


@pytest.mark.parametrize(
    "whose", [lambda: host(namespace="4026539999"), lambda: host(machine="0" * 12), lambda: ELSEWHERE]
)
def test_what_cannot_be_seen_is_not_judged(tmp_path: Path, dead: int, whose: Any) -> None:
    """A living borg in another container would be taken for dead, and its lock removed under its hands."""
    lock(tmp_path, whose(), dead)
    assert verdict(tmp_path) == Verdict.UNKNOWN


# --- With a real borg -----------------------------------------------------------------------------


def check(plan: Plan) -> Job:
    return run_now(CheckRepository.enqueue(plan.repository))


def lines(job: Job) -> str:
    return "\n".join(job.lines.order_by("number").values_list("message", flat=True))


@pytest.mark.e2e
@pytest.mark.django_db
@pytest.mark.usefixtures("one_thread")
class TestWithBorg:
    def test_a_lock_of_the_dead_is_broken_with_its_proof_in_the_log(self, plan: Plan, kept: SmallRepository) -> None:
        lock(kept.path, host(boot="0" * 12), 4242)
        job = check(plan)
        assert job.status == "completed"
        assert "locked by process 4242 of phpborg-" in lines(job)
        assert "which has been started anew since then." in lines(job)
        assert "The lock was broken." in lines(job)

    def test_a_lock_that_a_killed_borg_of_ours_left_is_no_hindrance(
        self, plan: Plan, kept: SmallRepository, tmp_path: Path
    ) -> None:
        """For real: a `borg with-lock` of ours is killed with SIGKILL while it holds the lock."""
        marker = tmp_path / "locked"
        env = {
            **os.environ, "BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": str(tmp_path / "base"),
            "BORG_HOST_ID": locks.host_id(), "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }  # fmt: skip
        argv = ["borg", "with-lock", str(kept.path), "sh", "-c", f"touch {marker}; exec sleep 60"]
        process = subprocess.Popen(argv, env=env, start_new_session=True)
        while not marker.exists():
            assert process.poll() is None
        assert verdict(kept.path) == Verdict.ALIVE
        os.killpg(process.pid, 9)
        process.wait()
        job = check(plan)
        assert job.status == "completed"
        assert "There is no such process on this machine any more." in lines(job)

    def test_a_stranger_s_lock_is_waited_for_and_named(
        self, plan: Plan, kept: SmallRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("backups.borg.commands.LOCK_WAIT_SECONDS", 1)
        lock(kept.path, ELSEWHERE, 1)
        job = check(plan)
        assert (job.status, job.cause) == ("failed", "lock")
        assert f"locked by process 1 of {ELSEWHERE}. That is another machine" in lines(job)
        assert (kept.path / "lock.exclusive").exists()

    def test_a_person_may_break_what_we_cannot_judge(self, plan: Plan, kept: SmallRepository) -> None:
        lock(kept.path, ELSEWHERE, 1)
        job = run_now(BreakLock.enqueue(plan.repository, sure=True))
        assert (job.status, job.result) == ("completed", {"broken": [f"1 of {ELSEWHERE}"]})
        assert not (kept.path / "lock.exclusive").exists()

    def test_nobody_breaks_the_lock_of_the_living(self, plan: Plan, kept: SmallRepository, borg_alive: int) -> None:
        lock(kept.path, host(), borg_alive)
        job = run_now(BreakLock.enqueue(plan.repository, sure=True))
        assert job.status == "failed"
        assert job.error == f"The lock's holder, process {borg_alive}, is alive."
        assert (kept.path / "lock.exclusive").exists()


def test_a_person_must_be_sure() -> None:
    assert "sure" in UnlockForm({}).errors
    assert UnlockForm({"sure": "on"}).is_valid()


def test_every_borg_of_ours_says_who_it_is(plan: Plan) -> None:
    access = CheckRepository(Job(type="check")).here(Repository.objects.get())
    assert access.command("list").env["BORG_HOST_ID"] == locks.host_id()
