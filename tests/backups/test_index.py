"""Reading the listing of a real archive."""

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts import encryption
from backups import catalog
from backups.catalog import ROOT, Catalog, Item
from backups.catalog.store import file_of
from backups.models import Archive, Plan, Repository, StoragePool
from backups.runners.index import IndexArchive, IndexRepository
from jobs.models import Job
from jobs.runner import Refused
from servers.models import Server
from tests.backups.tree import DEEP, LONG_AGO, PASSPHRASE, STRANGE_NAMES, Tree, everything_in
from tests.conftest import make_archive, run_now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


def index(archive: Archive) -> Job:
    job = run_now(IndexArchive.enqueue(archive))
    archive.refresh_from_db()
    return job


def walk(listing: Catalog, folder: int = ROOT, path: bytes = b"") -> dict[bytes, Item]:
    found: dict[bytes, Item] = {}
    for item in listing.folder(folder, limit=100_000):
        here = path + b"/" + item.name if path else item.name
        found[here] = item
        if item.is_folder:
            found |= walk(listing, item.id, here)
    return found


# --- What is read -----------------------------------------------------------------------------


@pytest.mark.e2e
def test_the_listing_is_exactly_what_lies_on_disk(real_archive: Archive, tree: Tree) -> None:
    job = index(real_archive)
    expected = everything_in(tree.root / "src")
    with Catalog(real_archive) as listing:
        found = walk(listing)
        assert {path: found[b"src/" + path].kind for path in expected} == {
            path: kind for path, (kind, _) in expected.items()
        }
        assert len(found) == len(expected) + 1  # src itself
        for path, (kind, content) in expected.items():
            item = found[b"src/" + path]
            if kind == "-" and not item.is_hard_link:
                assert item.size == len(content), path
            if kind == "l":  # borg tells targets, unlike names, as text only
                assert item.link == content.replace(b"\xe9", b"?"), path
    assert (job.status, job.warnings, job.result) == ("completed", 0, {"entries": len(found)})
    assert real_archive.indexed_at


@pytest.mark.e2e
def test_every_strange_name_is_found_by_its_bytes(real_archive: Archive) -> None:
    index(real_archive)
    with Catalog(real_archive) as listing:
        for name in STRANGE_NAMES:
            assert listing.find(b"src/names/" + name)
        assert listing.find(b"src/" + DEEP + b"/bottom")


@pytest.mark.e2e
def test_owner_mode_and_time_are_as_on_disk(real_archive: Archive) -> None:
    index(real_archive)
    with Catalog(real_archive) as listing:
        item = listing.find(b"src/dated")
    assert item and item.modified_at
    assert item.modified_at.timestamp() == LONG_AGO
    assert (item.mode, item.healthy) == ("-rw-r--r--", True)
    assert item.owner == (os.environ.get("USER") or "root")


@pytest.mark.e2e
def test_a_hard_link_points_to_the_first_of_its_names(real_archive: Archive) -> None:
    index(real_archive)
    with Catalog(real_archive) as listing:
        first, second = (listing.find(b"src/links/" + name) for name in (b"first", b"second"))
        assert first and second
        link, other = (first, second) if first.is_hard_link else (second, first)
        assert (link.kind, link.is_file, link.size) == ("-", True, 0)
        assert listing.content_of(link) == other


@pytest.mark.e2e
def test_an_archive_of_the_whole_machine_has_its_folders_at_the_top(real_archive: Archive, tree: Tree) -> None:
    Archive.objects.filter(pk=real_archive.pk).update(name="machine", borg_id=tree.archives["machine"])
    real_archive.refresh_from_db()
    index(real_archive)
    with Catalog(real_archive) as listing:
        top = {item.name for item in listing.folder(ROOT, limit=1000)}
    assert top == {os.fsencode(entry.name) for entry in Path("/").iterdir()}


@pytest.mark.e2e
def test_the_passphrase_is_nowhere_in_the_clear(real_archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    job = index(real_archive)
    stored = f"{Job.objects.filter(pk=job.pk).values()} {[line.message for line in job.lines.all()]} {caplog.text}"
    assert "list --log-json" in stored
    assert PASSPHRASE not in stored
    assert PASSPHRASE.split(";")[0] not in stored


@pytest.mark.e2e
def test_it_works_without_the_server(real_archive: Archive) -> None:
    Server.objects.update(enabled=False, host_key="")
    assert index(real_archive).status == "completed"


# --- What can go wrong ------------------------------------------------------------------------


@pytest.mark.e2e
def test_an_archive_that_somebody_deleted_has_no_listing(real_archive: Archive) -> None:
    Archive.objects.filter(pk=real_archive.pk).update(name="gone")
    job = index(real_archive)
    assert (job.status, job.error) == ("failed", "The archive is not in the repository.")
    assert real_archive.indexed_at is None
    assert not catalog.has(real_archive)


@pytest.mark.e2e
def test_a_wrong_passphrase_is_said(real_archive: Archive) -> None:
    Repository.objects.update(passphrase_encrypted=encryption.encrypt("wrong"))
    job = index(real_archive)
    assert (job.error, job.cause) == ("The passphrase of the repository is wrong.", "passphrase")


@pytest.mark.e2e
def test_a_repository_that_is_gone_is_said(real_archive: Archive, tmp_path: Path) -> None:
    StoragePool.objects.update(path=str(tmp_path))
    job = index(real_archive)
    assert (job.error, job.cause) == ("The repository is not where it was.", "disk")


def borg_prints(settings: Any, tmp_path: Path, script: str) -> None:
    path = tmp_path / "scripted-borg"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    settings.BORG_PATH = str(path)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("printf 'drwxr-xr-x\\0root'", "cannot be read: the listing ends in the middle of an entry."),
        ("printf 'nonsense'", "cannot be read: the listing ends in the middle of an entry."),
        (
            r"printf 'd\0r\0r\0many\0\0\0healthy\0etc\0'",
            "cannot be read: an entry of the listing is not what borg writes",
        ),
        ("head -c 600000 /dev/zero | tr '\\0' x", "cannot be read: an entry of the listing is longer than"),
    ],
)
def test_a_listing_that_is_nonsense_is_refused(
    archive: Archive, tmp_path: Path, settings: Any, script: str, sentence: str
) -> None:
    borg_prints(settings, tmp_path, script)
    job = index(archive)
    assert job.status == "failed"
    assert sentence in job.error
    assert not catalog.has(archive)


def test_a_borg_that_fails_after_a_whole_listing_is_not_believed(
    archive: Archive, tmp_path: Path, settings: Any
) -> None:
    borg_prints(settings, tmp_path, r"printf 'drwxr-xr-x\0root\0root\0000\0\0\0healthy\0etc\0'; exit 2")
    assert index(archive).status == "failed"
    assert not catalog.has(archive)


def test_a_second_reading_is_refused_while_one_waits(archive: Archive) -> None:
    IndexArchive.enqueue(archive)
    with pytest.raises(Refused, match=r"Listing is already waiting here\."):
        IndexArchive.enqueue(archive)


def test_another_archives_listing_is_not_in_its_way(archive: Archive) -> None:
    assert archive.plan
    IndexArchive.enqueue(archive)
    IndexArchive.enqueue(make_archive(archive.plan))


# --- All of a repository ----------------------------------------------------------------------


def of_all(archive: Archive, **parameters: Any) -> Job:
    return run_now(IndexRepository.enqueue(archive.repository, **parameters))


LISTS_A_FOLDER = r"printf 'drwxr-xr-x\0root\0root\0000\0\0\0healthy\0etc\0'"


def test_all_that_are_missing_are_read_the_oldest_first(
    archive: Archive, plan: Plan, tmp_path: Path, settings: Any
) -> None:
    older = make_archive(plan, taken_at=archive.taken_at - timedelta(days=1))
    there, gone = make_archive(plan), make_archive(plan, vanished_at=timezone.now())
    catalog.build(there, [])
    borg_prints(settings, tmp_path, LISTS_A_FOLDER)
    job = of_all(archive)
    assert (job.status, job.result) == ("completed", {"archives": 2}), job.error
    assert catalog.has(older)
    assert catalog.has(archive)
    assert not catalog.has(gone)
    assert of_all(archive).result == {"archives": 0}
    assert of_all(archive, anew=True).result == {"archives": 3}


def test_a_damaged_catalog_is_thrown_away_and_read_anew(archive: Archive, tmp_path: Path, settings: Any) -> None:
    borg_prints(settings, tmp_path, LISTS_A_FOLDER)
    file_of(archive.repository_id).parent.mkdir(parents=True)
    file_of(archive.repository_id).write_bytes(b"not a database" * 1000)
    job = index(archive)
    assert job.status == "failed"
    assert "was damaged (file is not a database). All its listings are read anew." in job.error
    file_of(archive.repository_id).write_bytes(b"not a database" * 1000)  # and once more, while that waits
    assert "was damaged" in index(archive).error
    assert run_now(Job.objects.get(type="listings")).result == {"archives": 1}
    assert catalog.has(archive)
