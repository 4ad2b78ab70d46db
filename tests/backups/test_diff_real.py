"""What real borgs say of two archives, beside what we see when we compare the two trees ourselves."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.conf import settings as django_settings

from accounts import encryption
from backups.diffs import ROOT, Diff
from backups.models import Archive, Plan, Repository
from backups.runners.diff import DiffArchives
from jobs.models import Job
from tests.backups.tree import STRANGE_NAMES, write
from tests.conftest import make_archive, run_now

pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.usefixtures("one_thread")]
BORGS = {
    "Debian's": "borg", **{name: str(django_settings.BASE_DIR / f".borg/{name}/bin/borg") for name in ("1.2", "1.4")}
}  # fmt: skip


class Seen(NamedTuple):
    kind: str  # as in `ls -l`
    size: int  # of a file; 0 for what is none
    content: bytes
    attributes: tuple[int, ...]  # mode, owner, group, and both times


def snapshot(top: Path) -> dict[bytes, Seen]:
    found = {}
    root = os.fsencode(top.parent)
    for folder, folders, files in os.walk(os.fsencode(top)):
        for path in [folder, *(os.path.join(folder, name) for name in [*folders, *files])]:
            status = os.lstat(path)
            kind = stat.filemode(status.st_mode)[0]
            content = os.readlink(path) if kind == "l" else b""
            if kind == "-":
                content = Path(os.fsdecode(path)).read_bytes()
            attributes = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_ctime_ns)
            found[os.path.relpath(path, root)] = Seen(kind, status.st_size if kind == "-" else 0, content, attributes)
    return found


def compared(before: dict[bytes, Seen], after: dict[bytes, Seen]) -> dict[bytes, tuple[str, int, int]]:
    """Of everything that differs how, and the bytes that came and went: the files here are one chunk each."""
    found = {path: ("added", seen.size, 0) for path, seen in after.items() if path not in before}
    found |= {path: ("removed", 0, seen.size) for path, seen in before.items() if path not in after}
    for path in before.keys() & after.keys():
        old, new = before[path], after[path]
        if old[:3] != new[:3]:
            found[path] = ("changed", new.size, old.size)
        elif old != new:
            found[path] = ("attributes", 0, 0)
    return found


def make(top: bytes) -> None:
    """Files of which everything will happen to some."""
    for folder in (b"", b"changed", b"gone", b"gone/deep", b"type", b"type/to-file", b"attributes", b"links", b"new"):
        os.makedirs(os.path.join(top, folder), exist_ok=True)
    for name in STRANGE_NAMES:
        write(os.path.join(top, b"changed", name), b"before " + name)
        write(os.path.join(top, b"gone", b"deep", name), b"soon gone " + name)
    for name in (b"to-folder", b"to-link", b"to-fifo", b"to-hard-link", b"odd-\xfa"):
        write(os.path.join(top, b"type", name), b"a file " + name)
    write(os.path.join(top, b"type", b"to-file", b"below"), b"below")
    for name in (b"mode", b"owner", b"dated", b"same", b"odd-\xfb"):
        write(os.path.join(top, b"attributes", name), b"stays " + name)
    write(os.path.join(top, b"links", b"first"), b"one content, two names")
    os.link(os.path.join(top, b"links", b"first"), os.path.join(top, b"links", b"second"))
    write(os.path.join(top, b"links", b"parted"), b"one content, two names, for now")
    os.link(os.path.join(top, b"links", b"parted"), os.path.join(top, b"links", b"parting"))
    os.symlink(b"nowhere \xe9", os.path.join(top, b"links", b"symlink"))
    os.mkfifo(os.path.join(top, b"type", b"fifo-to-file"))


def change(top: bytes) -> None:
    def at(*names: bytes) -> bytes:
        return os.path.join(top, *names)

    for number, name in enumerate(STRANGE_NAMES):
        write(at(b"changed", name), b"after " * (number + 1))
        write(at(b"new", name), b"new " * number)
    write(at(b"new", b"latin-\xea\xff"), b"looks like another")  # as “latin-\xe9\xff” does
    shutil.rmtree(at(b"gone"))
    for name in (b"to-folder", b"to-link", b"to-fifo", b"to-hard-link", b"odd-\xfa", b"fifo-to-file"):
        os.unlink(at(b"type", name))
    os.mkdir(at(b"type", b"to-folder"))
    write(at(b"type", b"to-folder", b"below"), b"below")
    os.symlink(b"x", at(b"type", b"to-link"))
    os.symlink(b"x", at(b"type", b"odd-\xfa"))
    os.mkfifo(at(b"type", b"to-fifo"))
    os.link(at(b"links", b"first"), at(b"type", b"to-hard-link"))
    shutil.rmtree(at(b"type", b"to-file"))
    write(at(b"type", b"to-file"), b"a file now")
    write(at(b"type", b"fifo-to-file"), b"another file now")
    os.chmod(at(b"attributes", b"mode"), 0o4750)
    os.chown(at(b"attributes", b"owner"), 4711, 4712)
    os.utime(at(b"attributes", b"dated"), (1, 1))
    os.chmod(at(b"attributes", b"odd-\xfb"), 0o600)
    write(at(b"links", b"second"), b"another content, two names")
    os.unlink(at(b"links", b"parting"))
    write(at(b"links", b"parting"), b"its own")
    os.unlink(at(b"links", b"symlink"))
    os.symlink(b"elsewhere", at(b"links", b"symlink"))


class Repo:
    def __init__(self, program: str, plan: Plan, folder: Path) -> None:
        self._program, self._plan, self._folder = program, plan, folder
        self.path = Path(plan.repository.path)
        self.borg("init", "--encryption=repokey-blake2", str(self.path))
        told = json.loads(self.borg("list", "--json", str(self.path)))
        Repository.objects.filter(pk=plan.repository_id).update(
            borg_id=told["repository"]["id"], passphrase_encrypted=encryption.encrypt("x")
        )

    def borg(self, *words: str) -> str:
        env = {
            **os.environ, "BORG_PASSPHRASE": "x", "BORG_BASE_DIR": str(self._folder / "base"), "TZ": "UTC",
            "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        done = subprocess.run(
            [self._program, *words], cwd=self._folder, env=env, check=True, capture_output=True, timeout=120
        )
        return done.stdout.decode()

    def save(self, name: str, *flags: str) -> Archive:
        self.borg("create", *flags, f"{self.path}::{name.replace('{', '{{').replace('}', '}}')}", "src")
        told = json.loads(self.borg("list", "--json", str(self.path)))["archives"]
        [item] = [item for item in told if item["name"] == name]
        start = datetime.fromisoformat(item["start"]).replace(tzinfo=UTC)
        return make_archive(self._plan, name=name, borg_id=item["id"], start=start)


@pytest.fixture(params=BORGS)
def repo(request: pytest.FixtureRequest, plan: Plan, tmp_path: Path, settings: Any) -> Repo:
    settings.BORG_PATH = BORGS[request.param]
    folder = tmp_path / "work"
    folder.mkdir()
    return Repo(settings.BORG_PATH, plan, folder)


def ran(before: Archive, after: Archive) -> Job:
    before.repository.refresh_from_db()
    job = run_now(DiffArchives.enqueue(after, other=before.pk))
    assert job.status == "completed", (job.error, list(job.lines.values_list("message", flat=True)))
    return job


def told(before: Archive, after: Archive) -> dict[bytes, tuple[str, int, int, bool]]:
    with Diff(before, after) as found:
        return {path: (item.kind, item.added, item.removed, item.exact) for path, item in found.leaves()}


def test_it_says_what_one_sees_when_one_compares_the_trees(repo: Repo, tmp_path: Path) -> None:
    """To the byte, in names and sizes, for files and for every folder. Red without what the listings add."""
    top = tmp_path / "work" / "src"
    make(os.fsencode(top))
    old, before = snapshot(top), repo.save("before")
    change(os.fsencode(top))
    new, after = snapshot(top), repo.save("after {now}")
    for first, second, trees in ((before, after, (old, new)), (after, before, (new, old))):
        job = ran(first, second)
        wanted = compared(*trees)
        assert {path for path, (*_, exact) in told(first, second).items() if not exact} == set()
        assert told(first, second).keys() == wanted.keys()
        sums_are_those_of_the_leaves(first, second, wanted)
        total = sum(more - less for _, more, less in wanted.values())
        assert total == sum(each.size for each in trees[1].values()) - sum(each.size for each in trees[0].values())
        assert (job.result["added"] - job.result["removed"], job.result["entries"]) == (total, len(wanted))


def sums_are_those_of_the_leaves(before: Archive, after: Archive, wanted: dict[bytes, tuple[str, int, int]]) -> None:
    with Diff(before, after) as found:
        folders = [ROOT]
        while folders:
            folder = found.item(folders.pop())
            assert folder
            path = b"/".join(part.name for part in found.trail(folder))
            below = {
                each: change
                for each, change in wanted.items()
                if not path or each == path or each.startswith(path + b"/")
            }
            assert folder.kind == wanted.get(path, ("",))[0], path
            assert folder.added == sum(more for _, more, _ in below.values()), path
            assert folder.removed == sum(less for _, _, less in below.values()), path
            assert folder.below == len(below) - (path in below), path
            kinds = [kind for kind, _, _ in below.values()]
            for kind in ("added", "removed", "changed", "attributes"):
                assert getattr(folder, f"count_{kind}") == kinds.count(kind), (path, kind)
            folders += [item.id for item in found.folder(folder.id, limit=10**6)]


def test_of_archives_that_were_cut_into_other_chunks_sizes_are_had_from_the_listings(
    repo: Repo, tmp_path: Path
) -> None:
    top = tmp_path / "work" / "src"
    make(os.fsencode(top))
    old, before = snapshot(top), repo.save("before")
    change(os.fsencode(top))
    new, after = snapshot(top), repo.save("after", "--chunker-params=10,23,16,4095")
    ran(before, after)
    wanted = compared(old, new)
    # The content of a file whose date alone is another is taken for another: borg does not say.
    dated = b"src/attributes/dated"
    wanted[dated] = ("changed", new[dated].size, old[dated].size)
    assert told(before, after).keys() == wanted.keys()
    sums_are_those_of_the_leaves(before, after, wanted)


def test_a_change_in_a_large_file_grows_by_what_it_grew(repo: Repo, tmp_path: Path) -> None:
    top = tmp_path / "work" / "src"
    top.mkdir()
    noise = os.urandom(6_000_000)
    (top / "big").write_bytes(noise)
    before = repo.save("before")
    (top / "big").write_bytes(noise[:100] + b"x" + noise[101:] + b"y" * 3000)
    after = repo.save("after")
    ran(before, after)
    kind, added, removed, _ = told(before, after)[b"src/big"]
    assert (kind, added - removed) == ("changed", 3000)
    assert added <= 6_003_000


def test_an_archive_that_borg_has_no_more_is_a_sentence(repo: Repo, tmp_path: Path) -> None:
    top = tmp_path / "work" / "src"
    top.mkdir()
    before, after = repo.save("before"), repo.save("after")
    repo.borg("delete", f"{repo.path}::before")
    before.repository.refresh_from_db()
    job = run_now(DiffArchives.enqueue(after, other=before.pk))
    assert job.status == "failed"
    assert job.error == "The archive is not in the repository."
