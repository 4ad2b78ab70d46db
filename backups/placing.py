"""How what was extracted comes to where it belongs on a server: shell scripts over SSH, nothing to install there.

    <safe>/.phpborg-restore-<job>/tree   borg or tar extracts into it; 0700, beside the destination
                                  |
                                  +--- mv, entry by entry --> the destination

Root writes here where others may write too: somebody could lay a symbolic link in its way. Each folder on the way
is entered by itself, the kernel is asked where that has led, and what is done then is done relative to it; a link is
followed only where nobody but root and us could have put it. What is extracted lies where nobody else can move it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from jobs.errors import Cause, Failure
from servers.ssh.command import NO_DIRECTORY, Command
from servers.ssh.remote import Remote, RemoteProcess
from servers.ssh.transport import Completed, NoSudo, Output, Tick, run

STAGING = ".phpborg-restore-"
TREE = "tree"  # in the staging folder, which stays private whatever an archive says of its root
BATCH_BYTES = 64 * 1024
COMPLAINT_CHARACTERS = 300
Stat = tuple[int, int, int]  # size in bytes, time in seconds, and mode
Known = TypeVar("Known")
Answer = TypeVar("Answer")

# `walk` goes to $1 from where we are, part by part: $2 "follow" symbolic links where they are safe, $3 "make" what is
# missing. `safe` says that nobody but root and us can change the way; `home` is the last folder of which that is true.
WALK = r"""
LC_ALL=C; export LC_ALL; unset CDPATH; umask 022
me=$(id -u); hops=0; why=
here() { at=$(env pwd -P; echo .); at=${at%??}; }
trusted() { [ "$1" = 0 ] || [ "$1" = "$me" ]; }
ours() { set -- $(stat -c '%u 0x%f' .); trusted "$1" && { [ $(($2 & 022)) = 0 ] || [ $(($2 & 01000)) != 0 ]; }; }
top() { cd /; at=/; safe=; ours && safe=1 && home=/; device=$(stat -c %d .); }
enter() {
  here; want=${at%/}/$1
  cd -P -- "./$1" 2>/dev/null || { why="$want is no folder, or may not be entered."; return 1; }
  here
  [ "$at" = "$want" ] || { why="$want is a symbolic link, which is not followed."; return 1; }
  device=$(stat -c %d .)
  if [ "$safe" ] && ours; then home=$at; else safe=; fi
}
walk() {
  rest=$1
  while :; do
    while [ "${rest#/}" != "$rest" ]; do rest=${rest#/}; done
    [ -n "$rest" ] || return 0
    part=${rest%%/*}; rest=${rest#"$part"}
    case $part in
      .) continue ;;
      ..) [ "$safe" ] && cd -P .. || return 1; here; device=$(stat -c %d .); continue ;;
    esac
    if [ -L "./$part" ]; then
      here; why="${at%/}/$part is a symbolic link, which is not followed."
      [ "$2" = follow ] && [ "$safe" ] && trusted "$(stat -c %u "./$part")" || return 1
      hops=$((hops + 1)); [ "$hops" -le 40 ] || return 1
      link=$(readlink -- "./$part"; echo .); link=${link%??}; rest=$link$rest; why=
      case $link in /*) cd /; at=/; device=$(stat -c %d .) ;; esac
      continue
    fi
    if ! [ -e "./$part" ]; then
      here; [ "$3" = make ] || { missing=1; return 0; }
      why=$(mkdir -- "./$part" 2>&1) || return 1
    fi
    enter "$part" || return 1
  done
}
"""

# $1 the folder. Prints, each with a NUL: where one gets, "missing", "empty" or "full", whether that is safe, the last
# folder that is, whether that is on the same file system, free kB, and the names of all processes.
LOOK = (
    WALK
    + r"""
missing=; home=; top
walk "$1" follow || { printf '%s\0' "refused" "$why"; exit 0; }
state=missing
[ "$missing" ] || { state=empty; [ -z "$(find . -mindepth 1 -print 2>/dev/null | head -c 1)" ] || state=full; }
here; reached=$at; there=$device
cd -P -- "${home:-/}" && same=$([ "$(stat -c %d .)" = "$there" ] && echo same)
cd -P -- "$reached" && free=$(df -Pk . | awk 'END { print $(NF-2) }')
printf '%s\0' "$state" "$reached" "$safe" "$home" "$same" "$free" "$(cat /proc/[0-9]*/comm 2>/dev/null | sort -u)"
"""
)

# $1 the folder that is to be there, safe from its root on. Prints where it is.
MAKE = (
    WALK + r"""top; walk "$1" follow make && [ "$safe" ] || { printf %s "$why" >&2; exit 1; }; here; printf %s "$at" """
)

# $1 the safe folder, $2 a name that is new in it. Prints what else of that kind is there.
STAGE = (
    WALK
    + r"""
missing=; top
walk "$1" follow && [ "$safe" ] && ! [ "$missing" ] || { printf %s "$why" >&2; exit 1; }
umask 077; mkdir -- "./$2" && mkdir "./$2/tree" || exit 1
for other in .phpborg-restore-*; do printf '%s\0' "$other"; done
"""
)

# $1 the extracted tree. Everything in it becomes that of whoever logs in, as if they had made it.
DISOWN = r"""
cd -- "$1" && chown -Rh -- "${SUDO_UID:-$(id -u)}:${SUDO_GID:-$(id -g)}" . || exit 1
find . ! -type l -exec chmod u+rw,go-w,a-s {} +
find . -type d -exec chmod u+x {} +
"""

# $1 the extracted tree, $2 the destination, $3 what to do with what is there, $4 "beside" or "", $5 ".restored-<time>",
# $6 "follow" or "", $7 "owners" or "", then paths in the tree. Prints records that end with a NUL each:
# + for what was put, b<path> for what was put beside something, s<path> for what was left, !<path>\0<why> for failures.
PLACE = (
    WALK
    + r"""
tree=$1; base=$2; mode=$3; beside=$4; suffix=$5; follow=$6; owners=$7; shift 7
staged=$(stat -c %d "$tree")
fail() { printf '!%s\0%s\0' "$1" "$2"; false; }
put() {
  if [ "$staged" = "$device" ]; then
    why=$(mv -fT -- "$1" "./$2" 2>&1)
  else
    new=./.phpborg-part-$$; rm -rf -- "$new"
    why=$(cp -aT -- "$1" "$new" 2>&1 && mv -fT -- "$new" "./$2" 2>&1 && rm -rf -- "$1") || { rm -rf -- "$new"; false; }
  fi && printf "$4\0" || fail "$3" "$why"
}
item() {
  if ! [ -e "./$2" ] && ! [ -L "./$2" ]; then
    put "$1" "$2" "$3" +
  elif [ -d "$1" ] && ! [ -L "$1" ] && [ -d "./$2" ] && ! [ -L "./$2" ]; then
    (enter "$2" && merge "$1" "$3" || fail "$3" "$why")
  elif [ "$mode" = skip ]; then
    printf 's%s\0' "$3"
  elif [ "$mode" = both ]; then
    if [ -e "./$2$suffix" ] || [ -L "./$2$suffix" ]; then fail "$3" "$2$suffix exists already."; return; fi
    put "$1" "$2$suffix" "$3" + && printf 'b%s\0' "$3"
  elif [ -d "./$2" ] && ! [ -L "./$2" ] && ! rmdir "./$2" 2>/dev/null; then
    fail "$3" "A folder that is not empty is in the way."
  else
    if [ -d "$1" ] && ! [ -L "$1" ]; then rm -f -- "./$2"; fi
    put "$1" "$2" "$3" +
  fi
}
merge() {
  since=$(stat -c %y -- "$1")
  for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    [ -e "$entry" ] || [ -L "$entry" ] || continue
    item "$entry" "${entry##*/}" "$2/${entry##*/}"
  done
  [ "$mode" = overwrite ] && [ "$owners" ] || return 0
  find "$1" -mindepth 1 -delete; why=$(cp -aT -- "$1" . 2>&1 && touch -d "$since" . 2>&1)
}
for root; do
  [ -e "$tree/$root" ] || [ -L "$tree/$root" ] || continue
  (
    name=${root##*/}; folder=${root%"$name"}; missing=; home=; top
    { walk "$base" follow make && walk "$folder" "$follow" make; } || { fail "$root" "$why"; exit; }
    [ "$beside" ] && name=$name$suffix
    item "$tree/$root" "$name" "$root"
  )
done
exit 0
"""
)

# $1 the destination; names on standard input. Prints size, time, kind, name for each that is there.
STATS = WALK + (
    r"""missing=; top; walk "$1" follow && ! [ "$missing" ] || { cat >/dev/null; exit 0; }
exec xargs -0 -r stat --printf '%s %Y %f %n\0' -- 2>/dev/null"""
)
HASHES = WALK + r"""top; walk "$1" follow || exit 1; exec xargs -0 -r sha256sum -z --"""
REMOVE = r'rm -rf -- "$1"'
INSIDE = f'cd -- "$1" || exit {NO_DIRECTORY}; shift; exec "$@"'


class TargetUnusable(Failure):
    cause = Cause.SOURCE
    advice = "Choose a directory that the SSH user may create or enter."


@dataclass(frozen=True)
class Place:
    """A destination as it was found."""

    directory: str
    state: str  # missing, empty or full
    reached: str  # the last folder on the way that is there
    is_safe: bool  # nobody but root and us can change the way there
    home: str  # the last folder of which that is true
    is_one_file_system: bool
    free: int | None  # bytes
    processes: frozenset[str]

    @property
    def is_for_us_alone(self) -> bool:
        """Nothing is there, and nobody can put anything there while we write."""
        return self.is_safe and self.state != "full"


@dataclass
class Placed:
    """What became of what was extracted; paths as in the archive."""

    count: int = 0
    skipped: set[bytes] = field(default_factory=set)
    beside: set[bytes] = field(default_factory=set)
    failed: list[tuple[bytes, str]] = field(default_factory=list)


class Target:
    """A machine onto which something is restored."""

    def __init__(self, machine: Remote, tick: Tick) -> None:
        self.machine = machine
        self._tick = tick

    def look(self, directory: str) -> Place:
        """What is at `directory`, and whether one can work there. Raises TargetUnusable or NoSudo."""
        done = self._ask(LOOK, directory)
        fields = done.stdout.decode("utf-8", "surrogateescape").split("\0")
        if fields[0] == "refused":
            raise TargetUnusable(f"{directory} on {self.machine.name} cannot be used: {fields[1] or 'it is no folder'}")
        if done.code != 0 or len(fields) < 7:
            raise TargetUnusable(
                f"{directory} on {self.machine.name} cannot be looked at: {complaint_of(done)}",
                advice="Restores need sh, stat, find, xargs, mv and cp there, as in GNU's coreutils and findutils.",
            )
        state, reached, safe, home, same, free, processes = fields[:7]
        return Place(
            directory, state, reached, bool(safe), home, same == "same", int(free) * 1024 if free.isdecimal() else None,
            frozenset(processes.split("\n")),
        )  # fmt: skip

    def make(self, directory: str) -> str:
        """Make a folder in a safe place; where it is then. Raises TargetUnusable."""
        done = self._ask(MAKE, directory)
        if done.code != 0:
            raise TargetUnusable(
                f"The directory {directory} cannot be made on {self.machine.name}: {complaint_of(done)}"
            )
        return done.stdout.decode("utf-8", "surrogateescape")

    def stage(self, home: str, job: str) -> tuple[str, list[str]]:
        """Make a private folder in the safe folder `home`, to extract into; it, and the jobs whose are there too.

        Raises TargetUnusable.
        """
        name = f"{STAGING}{job}"
        done = self._ask(STAGE, home, name)
        if done.code != 0:
            raise TargetUnusable(f"{self.machine.name} has no room of its own for us in {home}: {complaint_of(done)}")
        others = done.stdout.decode("utf-8", "surrogateescape").split("\0")
        return self.staging(home, job), [other.removeprefix(STAGING) for other in others if other and other != name]

    def staging(self, home: str, job: str) -> str:
        return f"{home.rstrip('/')}/{STAGING}{job}"

    def disown(self, staging: str) -> None:
        done = self._ask(DISOWN, f"{staging}/{TREE}")
        if done.code != 0:
            raise TargetUnusable(f"What was extracted could not be given to the SSH user: {complaint_of(done)}")

    def place(
        self, staging: str, roots: Iterable[bytes], base: str, *, existing: str, beside: bool, suffix: str,
        follow: bool, owners: bool,
    ) -> Iterator[Placed]:  # fmt: skip
        """Put `roots` where they belong below `base`; yields how far it is, again and again."""
        words = (
            f"{staging}/{TREE}", base, existing, "beside" if beside else "", suffix, "follow" if follow else "",
            "owners" if owners else "",
        )  # fmt: skip
        command = Command(("xargs", "-0", "-r", "sh", "-c", PLACE, "phpborg", *words), as_root=True)
        placed = Placed()
        yield placed
        with self.machine.open(command, self._tick) as process:
            fields = Fields(self._through(process, roots))
            for record in fields:
                mark, path = record[:1], record[1:]
                if mark == b"+":
                    placed.count += 1
                elif mark == b"s":
                    placed.skipped.add(path)
                elif mark == b"b":
                    placed.beside.add(path)
                elif mark == b"!":
                    placed.failed.append((path, next(fields, b"").decode("utf-8", "replace")[:COMPLAINT_CHARACTERS]))
                yield placed
            if process.exit_code() != 0:
                raise TargetUnusable(
                    f"{self.machine.name} did not put everything in its place: {fields.complaint or 'no answer'}"
                )

    def stats(self, base: str, names: Iterable[bytes]) -> Iterator[tuple[bytes, Stat]]:
        """Name, and size, time and mode, of each of `names` below `base` that is there."""
        for record in self._filter(STATS, base, names):
            size, time, mode, name = record.split(b" ", 3)
            yield name.removeprefix(b"./"), (int(size), int(time), int(mode, 16))

    def hashes(self, base: str, names: Iterable[bytes]) -> Iterator[tuple[bytes, str]]:
        """Name, and SHA-256, of each of `names` below `base` that can be read."""
        for record in self._filter(HASHES, base, names):
            sha256, _, name = record.partition(b"  ")
            yield name.removeprefix(b"./"), sha256.decode("ascii", "replace")

    def remove(self, staging: str) -> Completed:
        return self._ask(REMOVE, staging)

    def _filter(self, script: str, base: str, names: Iterable[bytes]) -> Iterator[bytes]:
        command = Command(("sh", "-c", script, "phpborg", base), as_root=True)
        with self.machine.open(command, self._tick) as process:
            yield from Fields(self._through(process, (b"./" + name for name in names)))

    def _through(self, process: RemoteProcess, names: Iterable[bytes]) -> Iterator[Output]:
        """What `process` says to `names`, while they are sent."""
        batch = bytearray()
        for name in names:
            batch += name + b"\0"
            if len(batch) >= BATCH_BYTES:
                if not process.write(bytes(batch)):
                    break
                batch.clear()
                yield from process.arrived()
        process.write(bytes(batch))
        process.finish()
        yield from process

    def _ask(self, script: str, *words: str) -> Completed:
        done = run(self.machine, Command(("sh", "-c", script, "phpborg", *words), as_root=True), self._tick)
        if done.code != 0 and any(line.startswith("sudo:") for line in done.stderr):
            raise NoSudo(
                f"sudo on {self.machine.name} lets us run borg, and nothing else.",
                advice="Restore into an empty directory of the SSH user with its owners, or let sudo run sh too.",
            )
        return done


class Fields:
    """Standard output cut at NULs; of standard error the last line is kept."""

    def __init__(self, outputs: Iterator[Output]) -> None:
        self.complaint = ""
        self._fields = self._cut(outputs)

    def _cut(self, outputs: Iterator[Output]) -> Iterator[bytes]:
        rest = b""
        for output in outputs:
            if isinstance(output, str):
                self.complaint = output[-COMPLAINT_CHARACTERS:]
                continue
            *fields, rest = (rest + output).split(b"\0")
            yield from fields

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._fields)


def complaint_of(done: Completed) -> str:
    return " ".join(done.stderr)[-COMPLAINT_CHARACTERS:] or "no answer"


def inside(command: Command, directory: str) -> Command:
    """`command` in a directory that only root may enter."""
    words = ("sh", "-c", INSIDE, "phpborg", directory, *command.argv)
    return Command(words, env=command.env, stdin=command.stdin, as_root=True)


def answered(
    asked: Iterable[tuple[bytes, Known]], ask: Callable[[Iterator[bytes]], Iterator[tuple[bytes, Answer]]]
) -> Iterator[tuple[bytes, Known, Answer | None]]:
    """Each name with what is known of it and what `ask` says to it, which may be nothing; in their order.

    `ask` is given the names while it answers, so that neither all names nor all answers are held.
    """
    waiting: deque[tuple[bytes, Known]] = deque()

    def names() -> Iterator[bytes]:
        for name, known in asked:
            waiting.append((name, known))
            yield name

    for name, answer in ask(names()):
        while waiting and waiting[0][0] != name:
            yield *waiting.popleft(), None
        if waiting:
            yield *waiting.popleft(), answer
    while waiting:
        yield *waiting.popleft(), None
