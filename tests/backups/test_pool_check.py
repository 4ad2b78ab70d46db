"""A look at a storage pool's folder, from the machine that it is on."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.models import StoragePool
from backups.pools import measure, problem_of
from backups.runners.init import refuse_taken
from backups.runners.pool import CheckPool, PoolUnusable
from jobs.runner import Refused
from tests.conftest import run_now

NOBODY = 65534


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may do everything; somebody else may not. Without root, we are somebody else already."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder into which nobody can look."""
    folder = tmp_path / "closed"
    (folder / "pool").mkdir(parents=True)
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


# --- What may be wrong with a folder ----------------------------------------------------------


def test_a_folder_that_is_ours_to_write_has_no_problem(tmp_path: Path) -> None:
    assert problem_of(str(tmp_path)) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert problem_of(f"{tmp_path}/gone") == f"The folder {tmp_path}/gone does not exist on the worker's machine."


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "does not exist" in problem_of(f"{tmp_path}/file")


def test_a_link_to_nowhere_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert "does not exist" in problem_of(f"{tmp_path}/link")


def test_a_folder_that_is_not_ours_to_write_is_said() -> None:
    with as_nobody():
        problem = problem_of("/usr")
    assert problem.startswith("We may not write to /usr on the worker's machine: ")


def test_a_folder_behind_a_closed_door_is_said(closed: Path) -> None:
    with as_nobody():
        problem = problem_of(f"{closed}/pool")
    assert problem.startswith("We may not ")
    assert f"{closed}/pool" in problem


def test_a_repository_behind_a_closed_door_is_refused_in_words(closed: Path) -> None:
    with as_nobody(), pytest.raises(PoolUnusable, match="We may not look into"):
        refuse_taken(closed / "pool" / "web-1")


# --- Kept in the row --------------------------------------------------------------------------


@pytest.mark.django_db
def test_measuring_keeps_how_much_room_there_is(pool: StoragePool) -> None:
    assert measure(pool) == ""
    pool.refresh_from_db()
    assert pool.checked_at
    assert pool.free_bytes and pool.total_bytes and 0 < pool.free_bytes <= pool.total_bytes
    assert pool.used_share is not None and 0 <= pool.used_share <= 1
    assert (pool.problem, pool.state_shown) == ("", "protected")


@pytest.mark.django_db
def test_measuring_a_pool_that_went_keeps_the_problem_and_the_last_numbers(pool: StoragePool) -> None:
    measure(pool)
    shutil.rmtree(pool.path)
    problem = measure(pool)
    pool.refresh_from_db()
    assert pool.problem == problem == f"The folder {pool.path} does not exist on the worker's machine."
    assert pool.state_shown == "at-risk"
    assert pool.free_bytes


@pytest.mark.django_db
def test_measuring_a_pool_that_came_back_takes_the_problem_away(pool: StoragePool) -> None:
    StoragePool.objects.filter(pk=pool.pk).update(problem="gone")
    measure(pool)
    pool.refresh_from_db()
    assert pool.problem == ""


@pytest.mark.django_db
def test_before_a_look_nobody_knows(pool: StoragePool) -> None:
    assert (pool.state_shown, pool.state_label, pool.used_share) == ("unknown", "not looked at", None)


# --- The job ----------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.usefixtures("one_thread")
def test_a_check_tells_how_much_is_free(pool: StoragePool) -> None:
    job = run_now(CheckPool.enqueue(pool))
    pool.refresh_from_db()
    assert job.status == "completed"
    assert job.result == {"free_bytes": pool.free_bytes, "total_bytes": pool.total_bytes}
    assert f"{pool.path} is ours to write, with {pool.free_bytes:,} of" in job.lines.get().message


@pytest.mark.django_db
@pytest.mark.usefixtures("one_thread")
def test_a_check_of_a_folder_that_is_gone_fails_in_words(pool: StoragePool) -> None:
    Path(pool.path).rmdir()
    job = run_now(CheckPool.enqueue(pool))
    assert (job.status, job.cause) == ("failed", "disk")
    assert job.error == f"The folder {pool.path} does not exist on the worker's machine."
    assert "ours to write" in job.advice


@pytest.mark.django_db
def test_a_second_check_is_refused_while_one_waits(pool: StoragePool) -> None:
    first = CheckPool.enqueue(pool)
    with pytest.raises(Refused, match=r"Storage pool check is already waiting here\.") as refusal:
        CheckPool.enqueue(pool)
    assert refusal.value.job == first
