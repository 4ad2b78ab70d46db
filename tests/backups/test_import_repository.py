"""Importing repositories that borg made before we came, with the borg of this machine."""

import hashlib
import json
import logging
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from accounts import encryption
from accounts.models import AuditEntry, User
from backups.models import Archive, Repository, StoragePool
from backups.runners.compare import CompareRepository
from backups.runners.import_ import ImportRepository
from backups.runners.index import IndexArchive
from backups.runners.init import InitRepository
from jobs.models import Job, LogLine
from jobs.periodic import reap
from jobs.runner import Refused, retry_of
from servers.models import Server
from tests.conftest import run_now
from tests.small import PASSPHRASE, SmallRepository

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread", "counted")]

BORG_14 = settings.BASE_DIR / ".borg" / "1.4" / "bin" / "borg"


NOT_BORGS = "{path} is no borg repository: its file “config” is not one of borg's."
BORG_2 = "{path} is a repository of borg 2. phpBorg works with those of borg 1."


def start(server: Server, pool: StoragePool, name: str = "old", **changes: Any) -> Job:
    values: dict[str, Any] = {"server": server, "pool": pool, "name": name, "passphrase": PASSPHRASE}
    return ImportRepository.begin(**(values | changes))


def imported(server: Server, pool: StoragePool, name: str = "old", **changes: Any) -> tuple[Job, Repository]:
    job = run_now(start(server, pool, name, **changes))
    assert job.repository
    return job, Repository.objects.get(pk=job.repository.pk)


@pytest.fixture
def old(small_repository: SmallRepository, pool: StoragePool) -> SmallRepository:
    """A repository in the pool's folder that nobody told us of."""
    return small_repository.copy(Path(pool.path) / "old")


def everything_in(folder: Path) -> dict[str, Any]:
    """Every file with its content, its mode and when it was changed."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mode, path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else sorted(os.listdir(path)),
        )
        for path in sorted([folder, *folder.rglob("*")])
    }  # fmt: skip


def everything_stored_about(job: Job) -> str:
    row = Job.objects.filter(pk=job.pk).values().get()
    return f"{row} {[line.message for line in LogLine.objects.filter(job=job)]}"


@dataclass(frozen=True)
class Made:
    path: Path
    key: str  # the key file's text


def made(folder: Path, mode: str, *, borg: str = "borg") -> Made:
    """A repository of one archive, made by `borg` with a base folder of its own, as a server would."""
    base = folder.parent.parent / f"base-{folder.name}"
    source = folder.parent.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "file").write_text("content")
    env = {"PATH": os.environ["PATH"], "BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": str(base), "TZ": "UTC"}
    words = ["--compression=zstd,3", "--exclude=*.tmp", f"{folder}::one", str(source)]
    for command in (["init", f"--encryption={mode}", str(folder)], ["create", *words]):
        subprocess.run([borg, *command], env=env, check=True, capture_output=True, timeout=60)
    keys = list(base.glob(".config/borg/keys/*"))
    return Made(folder, keys[0].read_text() if keys else "")


# --- As it should be --------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_repository_is_known_with_its_archives_and_nothing_in_it_changes(
    server: Server, pool: StoragePool, old: SmallRepository
) -> None:
    before = everything_in(old.path)
    job, repository = imported(server, pool)
    assert everything_in(old.path) == before
    assert (job.status, job.error, job.warnings) == ("completed", "", 0)
    assert job.result == {"borg_id": old.id, "encryption": "repokey-blake2", "archives": 3}
    assert (repository.state, repository.borg_id, repository.server) == ("ready", old.id, server)
    assert repository.original_bytes == 1_200_000
    assert 600_000 < repository.deduplicated_bytes < 700_000
    rows = list(Archive.objects.order_by("start"))
    assert {row.name: row.borg_id for row in rows} == {name: item["id"] for name, item in old.archives().items()}
    assert [(row.files, row.original_bytes, row.comment, row.plan) for row in rows] == [
        (number, number * 200_000, "Imported", None) for number in (1, 2, 3)
    ]
    assert all(row.taken_at == row.start and row.end >= row.start and row.job == job for row in rows)
    assert rows[0].start.isoformat() == "2026-03-01T02:00:00+00:00"
    assert rows[0].command_line.startswith("/usr/bin/borg create --timestamp=2026-03-01T02:00:00 ")
    assert rows[2].deduplicated_bytes >= 200_000


@pytest.mark.e2e
def test_what_is_kept_opens_it_and_agrees_with_what_borg_lists(
    server: Server, pool: StoragePool, old: SmallRepository
) -> None:
    _, repository = imported(server, pool)
    assert repository.passphrase() == PASSPHRASE
    exported = old.path.parent.parent / "key"
    old.borg("key", "export", "::", str(exported))
    assert encryption.decrypt(repository.key_encrypted) == exported.read_text()
    assert run_now(CompareRepository.enqueue(repository)).status == "completed"
    repository.refresh_from_db()
    assert (repository.frozen, repository.damage) == ("", "")
    index = Job.objects.filter(type=IndexArchive.type)
    assert {run_now(job).status for job in index} == {"completed"}


@pytest.mark.e2e
def test_only_the_newest_are_read_at_once(
    server: Server, pool: StoragePool, old: SmallRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backups.runners.import_.NEWEST_INDEXED", 2)
    imported(server, pool)
    subjects = {f"archive:{archive.pk}" for archive in Archive.objects.filter(name__in=["two", "three"])}
    assert set(Job.objects.filter(type=IndexArchive.type).values_list("subject", flat=True)) == subjects


@pytest.mark.e2e
def test_it_is_in_the_audit_trail_once_it_is_done(
    server: Server, pool: StoragePool, old: SmallRepository, admin: User
) -> None:
    job = start(server, pool, user=admin)
    assert not AuditEntry.objects.filter(action="repository.imported").exists()
    run_now(job)
    entry = AuditEntry.objects.get(action="repository.imported")
    assert (entry.user, entry.target, entry.detail["archives"]) == (admin, "old", 3)


@pytest.mark.e2e
def test_an_empty_repository_and_a_checkpoint_are_no_archives(
    server: Server, pool: StoragePool, old: SmallRepository
) -> None:
    old.borg("rename", "::one", "one.checkpoint")
    job, _ = imported(server, pool)
    assert (job.status, job.result["archives"]) == ("completed", 2)
    old.borg("delete", "::", "one.checkpoint", "two", "three")
    Archive.objects.all().delete()
    Repository.objects.all().delete()
    job, _ = imported(server, pool)
    assert (job.status, job.result["archives"], Archive.objects.count()) == ("completed", 0, 0)


@pytest.mark.e2e
def test_the_secrets_are_nowhere_in_the_clear(
    server: Server, pool: StoragePool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
    tmp_path: Path, settings: Any,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    key = made(Path(pool.path) / "old", "keyfile-blake2").key
    job, repository = imported(server, pool, key=key)
    assert job.status == "completed"
    assert encryption.decrypt(repository.key_encrypted) == key
    shutil.rmtree(tmp_path / "base-old")  # the key file of the server that made it
    on_disk = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    places = [everything_stored_about(job), caplog.text, "".join(capfd.readouterr()), str(vars(repository)),
              on_disk.decode("latin-1")]  # fmt: skip
    for secret in (PASSPHRASE, key, key.splitlines()[1]):
        assert not [place for place in places if secret in place]


# --- The kinds of encryption -------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("borg", "mode", "warning"),
    [
        ("borg", "repokey", ""),
        ("borg", "keyfile-blake2", ""),
        ("borg", "none", "The repository is not encrypted"),
        ("borg", "authenticated-blake2", "The repository is authenticated, but not encrypted"),
        (str(BORG_14), "repokey-blake2", ""),
        (str(BORG_14), "keyfile-blake2", ""),
    ],
)
def test_of_each_kind_of_encryption(server: Server, pool: StoragePool, borg: str, mode: str, warning: str) -> None:
    there = made(Path(pool.path) / "old", mode, borg=borg)
    before = everything_in(there.path)
    job, repository = imported(server, pool, key=there.key)
    assert (job.status, job.error, job.warnings) == ("completed", "", 1 if warning else 0)
    assert (job.result["encryption"], job.result["archives"]) == (mode, 1)
    assert (repository.key_encrypted == "") == (mode == "none")
    said = [line.message for line in LogLine.objects.filter(job=job, level=LogLine.Level.WARNING)]
    assert [line[: len(warning)] for line in said] == ([warning] if warning else [])
    assert everything_in(there.path) == before
    assert Archive.objects.get().command_line.endswith(f"{there.path}::one {there.path.parent.parent / 'source'}")


@pytest.mark.e2e
@pytest.mark.parametrize("given", ["none", "of another"])
def test_a_repository_without_its_key_says_what_is_missing(server: Server, pool: StoragePool, given: str) -> None:
    made(Path(pool.path) / "old", "keyfile-blake2")
    key = made(Path(pool.path) / "other", "keyfile-blake2").key if given == "of another" else ""
    job, repository = imported(server, pool, key=key)
    assert (job.status, job.cause) == ("failed", "passphrase")
    assert job.error == (
        "The key file is not this repository's." if key
        else "The repository does not hold its key, and no key file was given."
    )  # fmt: skip
    assert "borg key export" in job.advice
    assert_nothing_is_left(repository)


# --- What is refused --------------------------------------------------------------------------


def assert_nothing_is_left(repository: Repository) -> None:
    assert (repository.state, repository.passphrase_encrypted, repository.key_encrypted, repository.borg_id) == (
        "failed", "", "", "",
    )  # fmt: skip
    assert not Archive.objects.filter(repository=repository).exists()
    assert not Job.objects.filter(type=IndexArchive.type).exists()
    assert not AuditEntry.objects.filter(action="repository.imported", target__contains=repository.name).exists()


@pytest.mark.e2e
@pytest.mark.parametrize("wrong", ["", "small passphrase ", "ünïcode ☃ $(x) \"'"])
def test_a_wrong_passphrase_is_refused_and_not_kept(
    server: Server, pool: StoragePool, old: SmallRepository, wrong: str
) -> None:
    before = everything_in(old.path)
    job, repository = imported(server, pool, passphrase=wrong)
    assert (job.status, job.cause, job.error) == ("failed", "passphrase", "The passphrase of the repository is wrong.")
    assert job.advice == "Import it again with the right one. Nothing of this one was kept."
    assert_nothing_is_left(repository)
    assert everything_in(old.path) == before
    again, repository = imported(server, pool)
    assert (again.status, repository.state, Archive.objects.count()) == ("completed", "ready", 3)


@pytest.mark.e2e
def test_one_that_is_known_already_is_refused_by_its_id(
    server: Server, pool: StoragePool, old: SmallRepository
) -> None:
    imported(server, pool)
    Job.objects.filter(type=IndexArchive.type).delete()
    old.copy(Path(pool.path) / "copy")
    job, copy = imported(server, pool, "copy", passphrase="not even asked for")
    assert (job.status, job.error) == (
        "failed", "This repository is known already: it is old in the storage pool disk.",
    )  # fmt: skip
    assert_nothing_is_left(copy)
    assert Repository.objects.get(name="old").borg_id == old.id


def nothing(path: Path) -> None: ...


def empty(path: Path) -> None:
    path.mkdir()


def other_files(path: Path) -> None:
    path.mkdir()
    (path / "data").mkdir()


def a_file(path: Path) -> None:
    path.write_text("x")


def config(text: str) -> Any:
    def make(path: Path) -> None:
        path.mkdir()
        (path / "config").write_text(text)

    return make


def borg_2(path: Path) -> None:
    (path / "config").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (nothing, "{path} does not exist on the worker's machine."),
        (empty, "{path} is empty: there is no repository in it."),
        (other_files, "{path} is no borg repository: it has no file “config”."),
        (a_file, "{path} is a file."),
        (config("nonsense"), NOT_BORGS),
        (config("[repository]\nversion = 1\n"), NOT_BORGS),
        (config("[repository]\nversion = 1\nid = ../../x\n"), NOT_BORGS.replace("its", "the id in its")),
        (config("[repository]\nversion = 2\nid = ab\n"), BORG_2),
        (borg_2, BORG_2),
    ],
)  # fmt: skip
def test_what_is_no_repository_is_refused_in_words(server: Server, pool: StoragePool, make: Any, sentence: str) -> None:
    path = Path(pool.path) / "old"
    make(path)
    job, repository = imported(server, pool)
    assert (job.status, job.cause, job.error) == ("failed", "disk", sentence.format(path=path))
    assert job.advice
    assert_nothing_is_left(repository)


@pytest.mark.e2e
def test_what_only_looks_like_a_repository_is_refused_by_borg(server: Server, pool: StoragePool) -> None:
    config(f"[repository]\nversion = 1\nid = {'ab' * 32}\n")(Path(pool.path) / "old")
    job, repository = imported(server, pool)
    assert job.error.startswith("borg list failed with exit code 2: configparser.NoOptionError: No option")
    assert_nothing_is_left(repository)


def test_without_the_pools_folder_that_is_said(server: Server, pool: StoragePool) -> None:
    Path(pool.path).rmdir()
    job, _ = imported(server, pool)
    assert job.error == f"The folder {pool.path} does not exist on the worker's machine."


@pytest.mark.e2e
def test_a_damaged_one_is_refused(server: Server, pool: StoragePool, old: SmallRepository) -> None:
    for segment in old.path.glob("data/*/*"):
        segment.write_bytes(segment.read_bytes()[:20])
    job, repository = imported(server, pool)
    assert job.status == "failed"
    assert_nothing_is_left(repository)


def fake_borg(tmp_path: Path, info: str, *, code: int = 0) -> str:
    """A borg that lists one archive and says `info` of it."""
    listed = {
        "archives": [{"id": "cd" * 32, "name": "one", "start": "2026-03-01T02:00:00.000000"}],
        "encryption": {"mode": "none"}, "repository": {"id": "ab" * 32},
    }  # fmt: skip
    about = {"cache": {"stats": dict.fromkeys(("total_size", "total_csize", "unique_csize"), 1)}, **listed}
    (tmp_path / "list.json").write_text(json.dumps(listed, indent=4))
    (tmp_path / "about.json").write_text(json.dumps(about, indent=4))
    (tmp_path / "info.json").write_text(info)
    borg = tmp_path / "fake-borg"
    borg.write_text(
        f'#!/bin/sh\ncase "$*" in list*) cat {tmp_path}/list.json;; *glob*) cat {tmp_path}/info.json; exit {code};; '
        f"*) cat {tmp_path}/about.json;; esac\n"
    )
    borg.chmod(0o755)
    return str(borg)


@pytest.mark.parametrize(
    ("info", "code", "sentence"),
    [
        ("", 2, "borg info failed with exit code 2."),
        ("", 0, "borg's description of the archives ends in the middle."),
        ('{"archives": [3]}', 0, "borg's description of an archive is none."),
        ('{"archives": [{}]}', 0, "borg's description of the archive is incomplete"),
    ],
)  # fmt: skip
def test_a_borg_that_answers_nonsense_leaves_nothing(
    server: Server, pool: StoragePool, tmp_path: Path, settings: Any, info: str, code: int, sentence: str
) -> None:
    settings.BORG_PATH = fake_borg(tmp_path, info, code=code)
    config(f"[repository]\nversion = 1\nid = {'ab' * 32}\n")(Path(pool.path) / "old")
    job, repository = imported(server, pool)
    assert sentence in job.error
    assert_nothing_is_left(repository)


# --- Again, and no more -------------------------------------------------------------------------


def test_a_failed_one_is_begun_anew_and_not_run_again(server: Server, pool: StoragePool) -> None:
    job, repository = imported(server, pool)
    with pytest.raises(Refused, match=r"^Import old again with its passphrase: it was not kept\.$"):
        retry_of(job, user=None, trigger=Job.Trigger.RETRY)
    again = start(server, pool, passphrase="another")
    repository.refresh_from_db()
    assert (again.repository, repository.state, repository.passphrase()) == (repository, "creating", "another")
    with pytest.raises(Refused, match=r"^The repository old is still being made\.$"):
        start(server, pool)


def test_one_that_could_not_be_made_because_it_exists_can_be_imported(
    server: Server, pool: StoragePool, old: SmallRepository
) -> None:
    repository = Repository.objects.create(name="old", pool=pool, server=server)
    assert run_now(InitRepository.enqueue(repository)).status == "failed"
    assert start(server, pool).repository == repository


def test_one_of_ours_is_not_imported(server: Server, pool: StoragePool, repository: Repository) -> None:
    before = Repository.objects.values().get()
    with pytest.raises(Refused, match=r"^The repository web-1 is known already\.$"):
        start(server, pool, "web-1")
    with pytest.raises(Refused, match=r"^The repository web-1 is known already\.$"):
        ImportRepository.enqueue(repository)
    assert Repository.objects.values().get() == before
    Repository.objects.update(state="creating")
    repository.refresh_from_db()
    job = InitRepository.enqueue(repository)
    with pytest.raises(Refused) as refusal:
        ImportRepository.enqueue(repository)
    assert refusal.value.job == job


def test_one_whose_worker_disappeared_keeps_no_secret(server: Server, pool: StoragePool) -> None:
    job = start(server, pool, key="BORG_KEY ...")
    repository = job.repository
    assert repository and repository.key_encrypted
    assert job.claim("worker", holds=repository.hold)
    Job.objects.filter(pk=job.pk).update(heartbeat_at="2026-01-01T00:00:00Z")
    assert reap() == 1
    repository.refresh_from_db()
    assert_nothing_is_left(repository)


@pytest.mark.e2e
def test_one_that_somebody_else_has_ended_stores_nothing(
    server: Server, pool: StoragePool, old: SmallRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start(server, pool)

    def ended_meanwhile(runner: ImportRepository, *args: Any) -> str:
        Job.objects.filter(pk=job.pk).update(status="failed")
        ImportRepository.ended(Job.objects.get(pk=job.pk))
        return "BORG_KEY"

    monkeypatch.setattr(ImportRepository, "_key", ended_meanwhile)
    run_now(job)
    assert_nothing_is_left(Repository.objects.get())
