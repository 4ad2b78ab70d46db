"""A small repository, made with the borg of this machine, full of names that break things."""

from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

PASSPHRASE = 'it\'s a "pass" $phrase; with <odd> signs'
LONG_AGO = 1_577_934_245  # 2020-01-02 03:04:05 UTC
STRANGE_NAMES = (
    b"line\nbreak", b"tab\there", b"quote'\"`$(id)", b"<script>alert(1)", b"latin-\xe9\xff", b" spaces ",
    "snow-☃-😀".encode(), b"back\\slash \\n \\x41", b"-rf", b"--option", b"*?[a]", b"\x1b[31mred", b"...", b"x" * 255,
    "right\u202eleft".encode(), b"\xed\xa0\x80", b"pp:colon",
)  # fmt: skip
BIG_BYTES = 32 * 1024 * 1024
DEEP = b"/".join([b"d" * 250] * 14)


@dataclass(frozen=True)
class Tree:
    """`root` holds `src`, which the archive `name` of the repository at `repository` holds too."""

    root: Path
    repository: Path
    repository_id: str = ""
    archives: dict[str, str] = field(default_factory=dict)  # their ids by their names

    def bytes_of(self, path: bytes) -> bytes:
        with open(os.path.join(os.fsencode(self.root), path), "rb") as file:
            return file.read()


def make_tree(root: Path) -> None:
    source = os.fsencode(root / "src")
    for folder in (b"names", b"links", b"empty-folder", b"sizes"):
        os.makedirs(os.path.join(source, folder))
    for name in STRANGE_NAMES:
        write(os.path.join(source, b"names", name), b"content of " + name)
    write(os.path.join(source, b"sizes", b"empty"), b"")
    write(os.path.join(source, b"sizes", b"pieces"), os.urandom(700_000))
    write(os.path.join(source, b"sizes", b"big"), bytes(BIG_BYTES))
    write(os.path.join(source, b"links", b"first"), b"one content, two names")
    os.link(os.path.join(source, b"links", b"first"), os.path.join(source, b"links", b"second"))
    write(os.path.join(source, b"links", b"odd-\xfe"), b"one content, two odd names")
    os.link(os.path.join(source, b"links", b"odd-\xfe"), os.path.join(source, b"links", b"odd-\xff"))
    os.symlink(b"nowhere \xe9", os.path.join(source, b"links", b"symlink"))
    os.mkfifo(os.path.join(source, b"links", b"fifo"))
    write(os.path.join(source, b"dated"), b"dated")
    os.utime(os.path.join(source, b"dated"), (LONG_AGO, LONG_AGO))
    os.makedirs(os.path.join(source, DEEP))
    write(os.path.join(source, DEEP, b"bottom"), b"deep down")


def write(path: bytes, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def borg(tree: Tree, *words: str | bytes) -> str:
    env = {
        "PATH": os.environ["PATH"], "BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": str(tree.root / "base"),
        "LANG": "C.UTF-8", "TZ": "UTC",
    }  # fmt: skip
    done = subprocess.run(["borg", *words], cwd=tree.root, env=env, check=True, capture_output=True, timeout=120)
    return done.stdout.decode()


def make_repository(root: Path) -> Tree:
    """Archives: `src`, the tree above; `machine`, the uppermost folders of this machine."""
    tree = Tree(root, root / "pool" / "hostile")
    make_tree(root)
    tree.repository.parent.mkdir()
    location = str(tree.repository)
    borg(tree, "init", "--encryption=repokey-blake2", location)
    borg(tree, "create", f"{location}::src", "src")
    borg(tree, "create", "--exclude=sh:/*/*", f"{location}::machine", "/")
    for line in borg(tree, "list", "--format={name} {id}{NL}", location).splitlines():
        name, number = line.split()
        tree.archives[name] = number
    shown = borg(tree, "info", location)
    number = next(line.split()[-1] for line in shown.splitlines() if line.startswith("Repository ID:"))
    return Tree(root, tree.repository, number, tree.archives)


def everything_in(root: Path) -> dict[bytes, tuple[str, bytes]]:
    """Each path below `root` with its kind, and its content or target."""
    found: dict[bytes, tuple[str, bytes]] = {}
    top = os.fsencode(root)
    for folder, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            content = b""
            if stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(mode):
                content = os.readlink(path)
            found[os.path.relpath(path, top)] = (stat.filemode(mode)[0], content)
    return found
