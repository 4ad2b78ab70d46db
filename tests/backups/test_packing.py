"""A folder of a real archive in every format, unpacked with the tools that people have: all as it was, bit by bit."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from asgiref.sync import async_to_sync
from django.conf import LazySettings

from accounts import encryption
from backups.models import Archive, Plan, Repository, StoragePool
from backups.packing import PACKINGS, Export
from backups.runners.index import IndexArchive
from backups.zipping import spelled
from jobs.models import Job
from tests.backups.conftest import Workers
from tests.backups.test_downloads import body, download
from tests.backups.tree import LONG_AGO, PASSPHRASE, STRANGE_NAMES, Tree, borg, write
from tests.conftest import make_archive
from tests.e2e.conftest import BORGS

IS_ROOT = os.geteuid() == 0
UNPACK = {
    "tar": ["tar", "--numeric-owner", "-xpf"],
    "tar.gz": ["tar", "--numeric-owner", "--gzip", "-xpf"],
    "tar.zst": ["tar", "--numeric-owner", "--zstd", "-xpf"],
    "zip": ["unzip", "-q", "-K", "-X"],
}
LARGE = 5_000_000


def make_source(root: Path) -> None:
    """What a tar or a zip could get wrong."""
    top = os.fsencode(root / "src")
    for folder in (b"names", b"links", b"other", b"empty-folder", b"sticky"):
        os.makedirs(os.path.join(top, folder))
    for name in STRANGE_NAMES:
        write(os.path.join(top, b"names", name), b"content of " + name)
    write(os.path.join(top, b"names", b"latin-%E9%FF"), b"looks spelled, and is not")
    for name, mode in (
        (b"plain", 0o640),
        (b"secret", 0o400),
        (b"program", 0o755),
        (b"as-root", 0o4755),
        (b"open", 0o666),
    ):
        path = os.path.join(top, name)
        write(path, name)
        os.chmod(path, mode)
    os.chmod(os.path.join(top, b"sticky"), 0o1777)
    write(os.path.join(top, b"empty"), b"")
    write(os.path.join(top, b"large"), os.urandom(LARGE))
    with open(os.path.join(top, b"sparse"), "wb") as file:
        file.truncate(30_000_000)
        file.seek(20_000_000)
        file.write(b"in the middle of nothing")
    for number, seconds in enumerate((LONG_AGO, 157_766_400)):  # 1975 is before MS-DOS
        path = os.path.join(top, b"dated-%d" % number)
        write(path, b"dated")
        os.utime(path, (seconds, seconds))
    write(os.path.join(top, b"links", b"first"), b"one content, four names")
    write(os.path.join(top, b"links", b"odd-\xfe"), os.urandom(2_000_000))
    for old, new in (
        (b"links/first", b"links/second"), (b"links/first", b"other/third"), (b"links/first", b"other/fourth"),
        (b"links/odd-\xfe", b"links/odd-\xff"), (b"links/odd-\xfe", b"other/odd"),
    ):  # fmt: skip
        os.link(os.path.join(top, old), os.path.join(top, new))
    for target, name in ((b"first", b"near"), (b"nowhere \xe9", b"dangling"), (b"/etc/passwd", b"far")):
        os.symlink(target, os.path.join(top, b"links", name))
    os.mkfifo(os.path.join(top, b"links", b"fifo"))
    if IS_ROOT:
        os.chown(os.path.join(top, b"plain"), 1234, 432_100)
        os.chown(os.path.join(top, b"links", b"near"), 1234, 4321, follow_symlinks=False)


@pytest.fixture(scope="module", params=BORGS)
def shelf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Tree]:
    """A borg, and a repository with the archive `src`."""
    root = tmp_path_factory.mktemp("shelf")
    tree = Tree(root, root / "pool" / "shelf")
    make_source(root)
    tree.repository.parent.mkdir()
    borg(tree, "init", "--encryption=repokey-blake2", str(tree.repository))
    borg(tree, "create", f"{tree.repository}::src", "src")
    tree.archives["src"] = borg(tree, "list", "--format={id}", str(tree.repository)).strip()
    return str(BORGS[request.param]), tree


@pytest.fixture
def stored(shelf: tuple[str, Tree], plan: Plan, workers: Workers, settings: LazySettings) -> Archive:
    """That archive as a row, with its listing read."""
    settings.BORG_PATH, tree = shelf
    StoragePool.objects.filter(pk=plan.repository.pool_id).update(path=str(tree.repository.parent))
    Repository.objects.filter(pk=plan.repository.pk).update(
        name=tree.repository.name, passphrase_encrypted=encryption.encrypt(PASSPHRASE)
    )
    made = make_archive(plan, name="src", borg_id=tree.archives["src"])
    IndexArchive.enqueue(made)
    workers.join()
    return cast("Archive", Archive.objects.with_scope().get(pk=made.pk))


class State(NamedTuple):
    mode: str  # as `ls -l` shows it
    owner: tuple[int, int]
    changed: int  # seconds
    content: bytes  # of a link: to where
    names: frozenset[bytes]  # all that it has here


def state_of(root: Path) -> dict[bytes, State]:
    """Everything below `root` by its path."""
    top = os.fsencode(root)
    paths = [os.path.join(folder, name) for folder, folders, files in os.walk(top) for name in (*folders, *files)]
    names: dict[int, set[bytes]] = {}
    for path in paths:
        names.setdefault(os.lstat(path).st_ino, set()).add(os.path.relpath(path, top))
    found = {}
    for path in paths:
        seen, content = os.lstat(path), b""
        if stat.S_ISREG(seen.st_mode):
            with open(path, "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(seen.st_mode):
            content = os.readlink(path)
        found[os.path.relpath(path, top)] = State(
            stat.filemode(seen.st_mode), (seen.st_uid, seen.st_gid), int(seen.st_mtime), content,
            frozenset(names[seen.st_ino]),
        )  # fmt: skip
    return found


def unpacked(response: Any, packing: str, folder: Path) -> dict[bytes, State]:
    file = folder / f"download.{packing}"
    file.write_bytes(body(response))
    target = folder / "unpacked"
    target.mkdir()
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TZ": "UTC"}
    done = subprocess.run([*UNPACK[packing], str(file)], cwd=target, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return state_of(target)


def named(path: bytes) -> bytes:
    """As it is called in a zip."""
    return spelled(path.decode("utf-8", "surrogateescape")).encode()


def as_a_zip_has_it(state: State, path: bytes) -> State:
    """Each name is a file of its own; of links `unzip` sets only where they lead."""
    state = state._replace(names=frozenset([path]))
    if state.mode.startswith("l"):
        return state._replace(mode="l", owner=(0, 0), changed=0)
    return state


# --- Bit by bit -----------------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.parametrize("packing", ["tar", "tar.gz", "tar.zst"])
def test_a_folder_comes_back_as_it_was(stored: Archive, shelf: tuple[str, Tree], packing: str, tmp_path: Path) -> None:
    """Red with another tar for each hard link, with times in local time, or with names that were decoded."""
    response = download(stored, b"src", packing=packing)
    assert response["Content-Disposition"].startswith(f'attachment; filename="src.{packing}"')
    assert (response["Content-Type"], response["Accept-Ranges"]) == ("application/octet-stream", "none")
    found, expected = unpacked(response, packing, tmp_path), state_of(shelf[1].root)
    expected = {path: state for path, state in expected.items() if path.split(b"/")[0] == b"src"}
    assert found.keys() == expected.keys()
    assert [path for path in found if found[path] != expected[path]] == []
    assert len(found[b"src/links/first"].names) == 4


@pytest.mark.e2e
def test_a_folder_comes_back_from_a_zip(
    stored: Archive, shelf: tuple[str, Tree], workers: Workers, tmp_path: Path
) -> None:
    found = unpacked(download(stored, b"src", packing="zip"), "zip", tmp_path)
    expected = {
        named(path): as_a_zip_has_it(state, named(path)) for path, state in state_of(shelf[1].root).items()
        if path.split(b"/")[0] == b"src" and not path.endswith(b"/fifo")
    }  # fmt: skip
    found = {path: as_a_zip_has_it(state, path) for path, state in found.items()}
    assert found.keys() == expected.keys()
    assert [path for path in found if found[path] != expected[path]] == []
    workers.join()
    job = Job.objects.get(type="download")
    assert job.result["left_out"] == 1
    assert any("src/links/fifo" in line.message for line in job.lines.all())


@pytest.mark.e2e
@pytest.mark.parametrize("packing", [*PACKINGS])
def test_hard_links_to_what_lies_outside_of_the_folder_have_their_content(
    stored: Archive, shelf: tuple[str, Tree], packing: str, tmp_path: Path
) -> None:
    found = unpacked(download(stored, b"src/other", packing=packing), packing, tmp_path)
    content = {path: state.content for path, state in found.items() if state.mode.startswith("-")}
    assert content == {
        b"src/other/third": b"one content, four names", b"src/other/fourth": b"one content, four names",
        b"src/other/odd": shelf[1].bytes_of(b"src/links/odd-\xfe"),
    }  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize("packing", [*PACKINGS])
def test_an_empty_folder_is_a_folder(stored: Archive, packing: str, tmp_path: Path) -> None:
    assert [*unpacked(download(stored, b"src/empty-folder", packing=packing), packing, tmp_path)][-1:] == [
        b"src/empty-folder"
    ]


@pytest.mark.e2e
def test_whoever_names_no_format_gets_a_tar(stored: Archive, tmp_path: Path) -> None:
    response = download(stored, b"src/names")
    assert response["Content-Disposition"].startswith('attachment; filename="names.tar"')
    assert len(unpacked(response, "tar", tmp_path)) == len(STRANGE_NAMES) + 3


@pytest.mark.e2e
def test_a_zip_that_is_broken_off_ends_its_job(stored: Archive, workers: Workers) -> None:
    response = download(stored, b"src", packing="zip")

    async def read_a_little() -> int:
        first = await anext(aiter(response))
        await response.streaming_content.aclose()
        return len(first)

    assert async_to_sync(read_a_little)() > 0
    workers.join()
    assert Job.objects.get(type="download").status in ("cancelled", "completed")


# --- Nothing gathers ------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["tar", "tar.gz", "tar.zst"])
def test_what_is_read_is_passed_on_at_once(packing: str) -> None:
    """Red when a folder is packed as a whole before any of it is sent."""
    passed_on, most = 0, 0

    def pieces() -> Iterator[bytes]:
        nonlocal most
        for number in range(300):
            most = max(most, number * 65_536 - passed_on)
            yield os.urandom(65_536)

    def write(data: bytes) -> None:
        nonlocal passed_on
        passed_on += len(data)

    PACKINGS[packing](Export(pieces(), again=lambda _: iter(()), leave_out=len), write)
    assert passed_on >= 300 * 65_536
    assert most < 9_000_000
