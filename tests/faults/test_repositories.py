"""Where the repositories lie: damaged, nearly full, or too large to read in one night. Real borg."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backups import locks
from backups.models import Archive, Plan, Repository, RetentionPolicy, StoragePool
from backups.runners.check import CheckRepository
from backups.runners.compact import CompactRepository
from backups.runners.create import RunBackup
from backups.runners.delete import DeleteArchive
from backups.runners.prune import PruneArchives
from jobs.runner import JobRunner, Refused
from tests.conftest import run_now
from tests.faults.conftest import again, new_archives, script, source_of
from tests.faults.test_ssh import is_root
from tests.small import SmallRepository

pytestmark = [pytest.mark.e2e, pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


# --- Damage -----------------------------------------------------------------------------------------


def largest(kept: SmallRepository) -> Path:
    return max(kept.path.glob("data/*/*"), key=lambda path: path.stat().st_size)


def flipped(kept: SmallRepository) -> None:
    kept.flip_a_byte()


def truncated(kept: SmallRepository) -> None:
    os.truncate(largest(kept), largest(kept).stat().st_size - 1_000)


def gone(kept: SmallRepository) -> None:
    largest(kept).unlink()


@pytest.mark.parametrize("happens", [flipped, truncated, gone])
def test_damage_is_found_and_stops_everything_that_writes(
    real: Plan, kept: SmallRepository, as_viewer: Client, happens: Callable[[SmallRepository], None]
) -> None:
    """Also what was waiting while the check found it: red without `still` at the start of each `run`.

    Red as well when exit code 1 of a check is a warning, as it is elsewhere (BORG.md, finding 2).
    """
    policy = RetentionPolicy.objects.create(
        name="tight", keep_within="", keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0
    )
    Plan.objects.update(retention=policy)
    Repository.objects.update(checked_at=timezone.now())
    plan = again(real)
    waiting = [
        RunBackup.enqueue(plan), PruneArchives.enqueue(plan), CompactRepository.enqueue(plan.repository),
        DeleteArchive.enqueue(Archive.objects.get(name="one")),
    ]  # fmt: skip
    happens(kept)
    job = run_now(CheckRepository.enqueue(plan.repository))
    assert (job.status, job.cause) == ("failed", "disk")
    assert job.error.startswith("The check found damage: ")
    before = content_of(kept)
    for other in waiting:
        run_now(other)
        assert (other.status, other.cause) == ("failed", "disk"), other.type
        assert other.error == "The repository web-1 is damaged: nothing is written to it. Look at its page."
    plan = again(real)
    starts: list[tuple[type[JobRunner[Any]], Plan | Repository]] = [
        (RunBackup, plan), (PruneArchives, plan), (CompactRepository, plan.repository),
    ]  # fmt: skip
    for runner, subject in starts:
        with pytest.raises(Refused, match="is damaged"):
            runner.enqueue(subject)
    assert content_of(kept) == before  # nothing is repaired by machine, either
    page = as_viewer.get(plan.repository.get_absolute_url()).getvalue().decode()
    assert "state-at-risk" in page
    assert "The check found damage" in page


def content_of(kept: SmallRepository) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in kept.path.glob("data/*/*")}


# --- A check that takes too long --------------------------------------------------------------------


@pytest.fixture
def slow_borg(tmp_path: Path) -> str:
    """The real one, which takes a minute to read the data: it has locked the repository by then."""
    borg = Path(shutil.which("borg") or "")
    slow = tmp_path / "slow-borg"
    slow.write_text(
        f"{borg.read_text().splitlines()[0]}\n"
        "import sys, time\n"
        "from borg.archive import ArchiveChecker\n"
        "from borg.archiver import main\n"
        "ArchiveChecker.verify_data = lambda self: time.sleep(60)\n"
        "sys.exit(main())\n"
    )
    slow.chmod(0o755)
    return str(slow)


def test_a_check_that_takes_too_long_is_stopped_and_says_so(
    plan: Plan, kept: SmallRepository, as_viewer: Client, settings: Any, live: Any, slow_borg: str
) -> None:
    """Red without the maximum: it would keep the backups waiting for as long as it takes."""
    live(CHECK_MAX_SECONDS=4)
    borg, settings.BORG_PATH = settings.BORG_PATH, slow_borg
    job = run_now(CheckRepository.enqueue(plan.repository, depth="data"))
    assert (job.status, job.error) == ("completed", "")
    assert job.result == {
        "depth": "data", "stopped": True, "found": "Stopped after 4 s: what was read so far was sound.",
    }  # fmt: skip
    assert "CHECK_MAX_SECONDS" in job.lines.get(level=30).message
    assert job.result["found"] in as_viewer.get(f"/jobs/{job.pk}").getvalue().decode()
    repository = Repository.objects.get()
    assert (repository.damage, repository.checked_at, repository.verified_at) == ("", None, None)
    assert locks.holders(kept.path) == []
    live(CHECK_MAX_SECONDS=600)
    settings.BORG_PATH = borg
    assert "stopped" not in run_now(CheckRepository.enqueue(plan.repository, depth="data")).result
    assert Repository.objects.get().verified_at


def test_damage_that_was_found_before_the_time_was_up_is_damage(
    plan: Plan, kept: SmallRepository, settings: Any, live: Any, tmp_path: Path
) -> None:
    """Red when a stopped check is always a sound one."""
    settings.BORG_PATH = str(script(tmp_path / "borg", f'{shutil.which("borg")} "$@"; exec sleep 60'))
    live(CHECK_MAX_SECONDS=4)
    kept.flip_a_byte()
    job = run_now(CheckRepository.enqueue(plan.repository, depth="data"))
    assert (job.status, job.cause) == ("failed", "disk")
    assert Repository.objects.get().damage.startswith("The check found damage: Data integrity error")


# --- A disk that is nearly full ---------------------------------------------------------------------


@pytest.fixture
def small_disk(pool: StoragePool) -> Iterator[Path]:
    """A file system of 12 MB under the storage pool."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", pool.path], check=True)
    yield Path(pool.path)
    subprocess.run(["umount", "-l", pool.path], check=True)


@is_root
def test_a_disk_that_is_nearly_full_wants_attention_before_it_is_full(
    small_disk: Path, real: Plan, as_viewer: Client, live: Any
) -> None:
    """Red without `is_nearly_full`: the first that anybody hears is a backup that failed.

    tests/e2e/test_bad_input_made_real.py fills a disk to the last byte.
    """
    live(POOL_LOW_PERCENT=60)
    pool = f"/pools/{real.repository.pool_id}"

    def page(path: str) -> str:
        return as_viewer.get(path).getvalue().decode()

    assert run_now(RunBackup.enqueue(real)).status == "completed"
    assert StoragePool.objects.get().state_shown == "protected"
    assert "nearly full" not in page("/") + page(pool)

    (source_of(real) / "big").write_bytes(os.urandom(6_000_000))
    assert run_now(RunBackup.enqueue(again(real))).status == "completed"
    found = StoragePool.objects.get()
    assert (found.state_shown, found.state_label) == ("attention", "nearly full")
    for shown in (page("/"), page(pool)):
        assert "The disk is nearly full: " in shown
    assert f'href="{pool}"' in page("/").partition("Running")[0]

    (source_of(real) / "bigger").write_bytes(os.urandom(8_000_000))
    job = run_now(RunBackup.enqueue(again(real)))
    assert (job.status, job.cause, job.attempts) == ("failed", "disk", 1)
    assert "full" in job.error
    assert len(new_archives()) == 2


def test_how_full_is_nearly_full(pool: StoragePool, live: Any) -> None:
    """Less than either."""
    live(POOL_LOW_PERCENT=10, POOL_LOW_GB=5)
    gigabyte = 10**9
    cases = {(100, 1000): False, (99, 1000): True, (6, 20): False, (4, 20): True, (None, 20): False, (4, None): False}
    for (free, total), nearly in cases.items():
        pool.free_bytes, pool.total_bytes = (n and n * gigabyte for n in (free, total))
        assert pool.is_nearly_full is nearly
