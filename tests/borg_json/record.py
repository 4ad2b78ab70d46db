"""Records what real borgs print, with the command lines that phpBorg uses: the parsers' tests read it.

    python -m tests.borg_json.record /usr/bin/borg /opt/borg-1.4/bin/borg

It needs root: it makes files of others, and a small file system. Each case becomes `<version>/<case>.stdout`
and `.stderr`, and the exit codes of all are in `<version>/codes.json`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from backups.borg import commands
from backups.borg.commands import Access, CreateOptions
from servers.ssh.command import Command
from servers.ssh.local import Local
from servers.ssh.transport import Completed, run

HERE = Path(__file__).parent
PLACE = Path("/tmp/borg-sample")
STRANGE = PLACE / "strange"
PLAIN = PLACE / "plain"
NOBODY = 65534
LONG_AGO = 1_577_934_245  # 2020-01-02 03:04:05 UTC
NOT_UTF8 = b"not-utf8-\xfe\x80"
STRANGE_NAMES = (
    b"line\nbreak", b"back\\slash \\n \\x41 \\u0041", b"tab\there", "snow-☃-😀-é".encode(), b" spaces ", b"-rf",
    b"quote'\"$(id)", b"x" * 255, b"linked", NOT_UTF8,
)  # fmt: skip


class Recorder:
    def __init__(self, borg: str) -> None:
        passphrase = 'a throwaway\'s "pass" $phrase'
        self.access = Access(str(PLACE / "repo"), passphrase, borg=borg, base_dir=str(PLACE / "base"))
        self.codes: dict[str, int | None] = {}
        self.version = self.run(commands.version(borg)).text.split()[1]
        self.target = HERE / self.version
        shutil.rmtree(self.target, ignore_errors=True)
        self.target.mkdir()

    def run(self, command: Command, *, as_nobody: bool = False) -> Completed:
        """Run it as it is, but in no directory of ours and without a minute's wait for locks."""
        argv = [word.replace("--lock-wait=60", "--lock-wait=1") for word in command.argv]
        if as_nobody:
            argv = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *argv]
        return run(Local(), dataclasses.replace(command, argv=tuple(argv), cwd=command.cwd or "/"), lambda: None)

    def record(self, case: str, command: Command, *, as_nobody: bool = False) -> None:
        done = self.run(command, as_nobody=as_nobody)
        stderr = "".join(f"{line}\n" for line in done.stderr)
        (self.target / f"{case}.stdout").write_bytes(self.neutral(done.stdout))
        (self.target / f"{case}.stderr").write_bytes(self.neutral(stderr.encode()))
        self.codes[case] = done.code
        (self.target / "codes.json").write_text(json.dumps(self.codes, indent=1, sort_keys=True) + "\n")

    def neutral(self, output: bytes) -> bytes:
        """Without this machine's name and kernel, and without the places of this borg and its Python."""
        output = re.sub(rb"Platform: [^\\\n]*", b"Platform: Linux web-1", output)
        output = output.replace(self.access.borg.encode(), b"/usr/bin/borg")
        return re.sub(rb'/[^\s"]*/(python3[^/\s"]*|site-packages)/', b"/usr/lib/python3/", output)


def record_all(borg: str) -> None:
    make_sources()
    recorder = Recorder(borg)
    access = recorder.access
    recorder.record("version", commands.version(borg))
    recorder.record("init", commands.init(access))
    recorder.record("init_again", commands.init(access))
    recorder.record("list_empty", commands.list_archives(access))
    recorder.record("create", commands.create(access, "first", [str(STRANGE)], CreateOptions()))
    recorder.record("create_again", commands.create(access, "first", [str(STRANGE)], CreateOptions()))
    recorder.record("list", commands.list_archives(access))
    recorder.record("list_files", commands.list_files(access, "first"))
    recorder.record("key_export", commands.key_export(access))
    recorder.record("no_archive", commands.extract(access, "second", [], directory=str(PLACE / "target")))
    recorder.record("no_archive_to_list", commands.list_files(access, "second"))
    recorder.record("usage", access.command("list", "--log-json", "--nonsense", access.location))
    recorder.record("crash", access.command("config", "--log-json", access.location, "storage_quota", "1M"))
    recorder.record("wrong_passphrase", commands.list_archives(dataclasses.replace(access, passphrase="wrong")))
    record_extracting(recorder)
    record_comparisons(recorder)
    record_warnings(recorder)
    record_repositories(recorder)
    record_full_disks(recorder)


def make_sources() -> None:
    """Trees in which everything has a known name, size, owner and time."""
    shutil.rmtree(PLACE, ignore_errors=True)
    for folder in (STRANGE, PLAIN, PLACE / "base", PLACE / "target"):
        folder.mkdir(parents=True)
    PLACE.chmod(0o755)
    strange = os.fsencode(STRANGE) + b"/"
    for name in STRANGE_NAMES:
        Path(os.fsdecode(strange + name)).write_bytes(name)
    os.link(strange + b"linked", strange + b"other\xff")
    os.symlink(b"/to/nowhere \xe9\\", strange + b"symlink")
    os.mkfifo(strange + b"fifo")
    os.mknod(strange + b"device", 0o020600, os.makedev(1, 3))
    (STRANGE / "before-1970").write_bytes(b"old")
    (STRANGE / "before-1970").chmod(0o4755)
    for name in [*os.listdir(strange), b"."]:
        os.utime(strange + name, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    os.utime(STRANGE / "before-1970", ns=(-86_400 * 10**9, -86_400 * 10**9 + 250_000_000))
    (PLAIN / "good").write_bytes(b"good" * 1000)
    (PLAIN / "secret").write_bytes(b"only for root")
    (PLAIN / "secret").chmod(0)
    (PLAIN / "closed").mkdir(mode=0)


def record_extracting(recorder: Recorder) -> None:
    access, target, folder = recorder.access, str(PLACE / "target"), str(STRANGE).lstrip("/")
    recorder.record("extract", commands.extract(access, "first", [folder], directory=target))
    recorder.record("extract_nothing", commands.extract(access, "first", ["no/such"], directory=target))
    path = f"{folder}/{os.fsdecode(NOT_UTF8)}"
    recorder.record("extract_to_stdout", commands.extract_to_stdout(access, "first", path))


def record_comparisons(recorder: Recorder) -> None:
    """Of two archives between which something of each kind has happened, and of others that are cut up differently."""
    access, folder = recorder.access, PLACE / "compared"
    make_compared(folder)
    recorder.run(commands.create(access, "before", [str(folder)], CreateOptions()))
    change_compared(folder)
    recorder.run(commands.create(access, "after", [str(folder)], CreateOptions()))
    recorder.record("diff", commands.diff(access, "before", "after"))
    recorder.record("diff_of_the_same", commands.diff(access, "after", "after"))
    recorder.record("diff_without_other", commands.diff(access, "after", "nowhere"))
    coarse = access.command("create", "--chunker-params=10,23,16,4095", access.archive("coarse"), str(folder))
    recorder.run(coarse)
    recorder.record("diff_of_other_chunks", commands.diff(access, "before", "coarse"))


def make_compared(folder: Path) -> None:
    for name in ("same", "content", "mode", "owner", "to-link", "to-folder", "gone", "odd\udcff", 'q"\n\\'):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("before" + name.encode("utf-8", "replace").decode())
    (folder / "to-file").mkdir()
    (folder / "to-file" / "below").write_text("below")
    (folder / "folder-gone").mkdir()
    (folder / "link").symlink_to("before")
    os.mkfifo(folder / "from-fifo")


def change_compared(folder: Path) -> None:
    for name in ("content", "odd\udcff", 'q"\n\\'):
        (folder / name).write_text("afterwards")
    (folder / "mode").chmod(0o600)
    os.chown(folder / "owner", 1, 1)
    for name in ("to-link", "to-folder", "gone", "link", "from-fifo", "to-file/below"):
        (folder / name).unlink()
    for name in ("to-file", "folder-gone"):
        (folder / name).rmdir()
    (folder / "to-link").symlink_to("same")
    (folder / "to-folder").mkdir()
    (folder / "to-folder" / "new").write_text("new")
    (folder / "to-file").write_text("a file")
    (folder / "from-fifo").write_text("file")
    (folder / "link").symlink_to("after")
    (folder / "added").write_text("added")
    (folder / "added-folder").mkdir()
    (folder / "added-link").symlink_to("same")
    os.mkfifo(folder / "added-fifo")


def record_warnings(recorder: Recorder) -> None:
    """Of a borg that may not read all, and does not find all."""
    access = dataclasses.replace(
        recorder.access, location=str(PLACE / "of-nobody"), base_dir=str(PLACE / "base-of-nobody")
    )
    for folder in (access.location, access.base_dir):
        Path(folder).mkdir()
        os.chown(folder, NOBODY, NOBODY)
    recorder.run(commands.init(access), as_nobody=True)
    gone, options = str(PLACE / "gone"), CreateOptions()
    recorder.record("create_with_warnings", commands.create(access, "a", [str(PLAIN), gone], options), as_nobody=True)
    recorder.record("create_of_nothing", commands.create(access, "b", [gone], options), as_nobody=True)


def record_repositories(recorder: Recorder) -> None:
    """Of repositories that are locked, closed, broken, or not there."""
    access = recorder.access

    def at(folder: Path, rsh: str = "") -> Access:
        return dataclasses.replace(access, location=str(folder), rsh=rsh)

    recorder.record("no_repository", commands.list_archives(at(PLACE / "gone")))
    recorder.record("no_repository_but_a_folder", commands.list_archives(at(PLAIN)))
    with locked(access):
        recorder.record("locked", commands.create(access, "second", [str(PLAIN)], CreateOptions()))
    for case, script in (("not_allowed", f"{access.borg} serve --restrict-to-repository=/x"), ("hung_up", "exit 0")):
        (PLACE / "rsh").write_text(f"{script}\n")
        relayed = dataclasses.replace(access, location=f"ssh://phpborg{access.location}", rsh=f"sh {PLACE}/rsh")
        recorder.record(case, commands.list_archives(relayed))

    Path(access.location).rename(PLACE / "moved")
    recorder.record("moved", commands.list_archives(at(PLACE / "moved")))
    recorder.record("moved_to_list", commands.list_files(at(PLACE / "moved"), "first"))
    (PLACE / "moved").rename(access.location)

    (PLACE / "big").write_bytes(os.urandom(300_000))
    damaged = at(PLACE / "damaged")
    recorder.run(commands.init(damaged))
    recorder.run(commands.create(damaged, "first", [str(PLACE / "big")], CreateOptions()))
    segment = max((PLACE / "damaged" / "data" / "0").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)
    recorder.record("damaged", commands.extract(damaged, "first", [], directory=str(PLACE / "target")))


def record_full_disks(recorder: Recorder) -> None:
    access = recorder.access
    (PLAIN / "noise").write_bytes(os.urandom(14 * 1024**2))
    with small_disk(PLACE / "small"):
        small = dataclasses.replace(access, location=str(PLACE / "small" / "repo"))
        recorder.run(commands.init(small))
        recorder.record("disk_full", commands.create(small, "first", [str(PLAIN)], CreateOptions()))
    recorder.run(access.command("config", access.location, "storage_quota", "10M"))
    recorder.record("quota", commands.create(access, "third", [str(PLAIN)], CreateOptions()))


@contextlib.contextmanager
def locked(access: Access) -> Iterator[None]:
    """While the block runs, another borg has the repository's lock."""
    command = access.command("with-lock", access.location, "sh", "-c", "echo held; read end")
    with subprocess.Popen(
        command.argv, env={**os.environ, **command.env, "BORG_PASSPHRASE": access.passphrase, "BORG_PASSPHRASE_FD": ""},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as holder:  # fmt: skip
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.communicate(b"\n")


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


if __name__ == "__main__":
    for program in sys.argv[1:]:
        record_all(program)
    shutil.rmtree(PLACE, ignore_errors=True)
