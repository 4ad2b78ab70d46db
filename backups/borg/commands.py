"""Borg's command lines, as data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from servers.ssh.command import Command

LOCK_WAIT_SECONDS = 60
CHECKPOINT_SECONDS = 600

# The fields of one entry, each followed by NUL. Borg replaces what is not UTF-8 when it writes text,
# in `bpath` and in JSON too; with Python's codec `unicode_escape` it writes every name exactly, and
# so that the bytes can be had back (results.Listing). Tried with borg 1.2.4, 1.2.9 and 1.4.5.
LISTING_FIELDS = ("mode", "user", "group", "size", "isomtime", "source", "health", "bpath")
LISTING_FORMAT = "".join(f"{{{name}}}{{NUL}}" for name in LISTING_FIELDS)
CONTENT_FORMAT = f"{LISTING_FORMAT}{{sha256}}{{NUL}}"


@dataclass(frozen=True)
class Access:
    """How a borg gets at one repository from the machine on which it runs."""

    location: str  # a path there, or an ssh:// URL
    passphrase: str = field(default="", repr=False)
    borg: str = "borg"
    rsh: str = ""  # BORG_RSH, when the location is an ssh:// URL
    remote_borg: str = ""  # what borg is called there; "": borg
    key_file: str = ""  # BORG_KEY_FILE, of a repository that does not hold its own key; borg ignores it for others
    introduce: bool = False  # borg here may meet the repository for the first time, or at a new place
    host_id: str = ""  # by which borg knows the locks of its own machine; "": its default
    base_dir: str = ""  # where borg keeps its cache and its memory of repositories; "": its default
    as_root: bool = False  # borg must read (or write) every file of that machine

    def archive(self, name: str) -> str:
        return f"{self.location}::{literally(name)}"

    def command(self, *words: str, cwd: str | None = None, env: dict[str, str] | None = None) -> Command:
        return Command(
            (self.borg, *words),
            env={**self._environment(), **(env or {})},
            stdin=self.passphrase.encode(),
            cwd=cwd,
            as_root=self.as_root,
        )

    def _environment(self) -> dict[str, str]:
        known = "yes" if self.introduce else "no"
        settings = {
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "BORG_EXIT_CODES": "modern",
            "BORG_PASSPHRASE_FD": "0",
            "BORG_DISPLAY_PASSPHRASE": "no",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": known,
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": known,
        }
        if self.rsh:
            settings["BORG_RSH"] = self.rsh
        if self.remote_borg:
            settings["BORG_REMOTE_PATH"] = self.remote_borg
        if self.key_file:
            settings["BORG_KEY_FILE"] = self.key_file
        if self.base_dir:
            settings["BORG_BASE_DIR"] = self.base_dir
        if self.host_id:
            settings["BORG_HOST_ID"] = self.host_id
        return settings


def literally(name: str) -> str:
    """An archive's name where borg fills in placeholders: behind "::", and as a word of `diff` and `rename`."""
    return name.replace("{", "{{").replace("}", "}}")


@dataclass(frozen=True)
class CreateOptions:
    compression: str = "lz4"
    excludes: tuple[str, ...] = ()  # in borg's pattern language
    one_file_system: bool = False
    exclude_caches: bool = True
    upload_kib_per_second: int = 0  # 0: as fast as it goes


def init(access: Access) -> Command:
    return access.command("init", "--log-json", "--encryption", "repokey-blake2", access.location)


def key_export(access: Access) -> Command:
    """Prints the key."""
    return access.command("key", "export", "--log-json", access.location)


def create(access: Access, name: str, paths: Sequence[str], options: CreateOptions) -> Command:
    """Back up `paths` into the archive `name`; prints its JSON. Raises ValueError without a path."""
    if not paths or not all(path.startswith("/") for path in paths):
        raise ValueError("A backup needs at least one path, each beginning with /.")
    flags = [
        "--log-json", "--progress", "--json", f"--lock-wait={LOCK_WAIT_SECONDS}",
        f"--checkpoint-interval={CHECKPOINT_SECONDS}", f"--compression={options.compression}",
        *(["--one-file-system"] if options.one_file_system else []),
        *(["--exclude-caches"] if options.exclude_caches else []),
        *([f"--upload-ratelimit={options.upload_kib_per_second}"] if options.upload_kib_per_second else []),
        *(f"--exclude={pattern}" for pattern in options.excludes),
    ]  # fmt: skip
    return access.command("create", *flags, access.archive(name), "--", *paths)


def list_archives(access: Access) -> Command:
    """Prints a JSON object with every archive; waits for nobody."""
    return access.command("list", "--log-json", "--bypass-lock", "--json", access.location)


def info(access: Access, name: str = "") -> Command:
    """Prints a JSON object about one archive and the whole repository, or about the repository alone."""
    where = access.archive(name) if name else access.location
    return access.command("info", "--log-json", "--bypass-lock", "--json", where)


class Depth(StrEnum):
    """How thoroughly `check` looks. Borg takes a maximum duration for the first only."""

    REPOSITORY = "repository"  # every segment's checksum
    ARCHIVES = "archives"  # that every archive finds its chunks
    FULL = "full"  # both
    DATA = "data"  # both, and every chunk decrypted


def check(access: Access, depth: Depth, *, max_seconds: int = 0) -> Command:
    """Any exit code but 0 is damage, or no check at all (BORG.md, finding 2)."""
    flags = {
        Depth.REPOSITORY: ["--repository-only", *([f"--max-duration={max_seconds}"] if max_seconds else [])],
        Depth.ARCHIVES: ["--archives-only"],
        Depth.FULL: [],
        Depth.DATA: ["--verify-data"],
    }[depth]
    return access.command(
        "check", "--log-json", "--info", "--progress", f"--lock-wait={LOCK_WAIT_SECONDS}", *flags, access.location
    )


def compact(access: Access) -> Command:
    """Says in a message how much it freed."""
    return access.command(
        "compact", "--log-json", "--info", "--progress", f"--lock-wait={LOCK_WAIT_SECONDS}", access.location
    )


def delete(access: Access, names: Sequence[str]) -> Command:
    """Delete these archives and no other; the room comes back with `compact`. Raises ValueError without a name.

    Without one borg would delete the whole repository. Names are words of their own: behind "::" borg would
    fill in what it takes for placeholders.
    """
    if not names or not all(names):
        raise ValueError("A deletion needs the names of archives.")
    flags = ("--log-json", "--progress", f"--lock-wait={LOCK_WAIT_SECONDS}")
    return access.command("delete", *flags, "--", access.location, *names)


def list_files(access: Access, name: str, paths: Iterable[str] = ()) -> Command:
    """Prints `paths` of an archive and what is below them (none: every entry) for parse_files; waits for nobody."""
    return _list(access, name, LISTING_FORMAT, _exactly(paths))


def list_contents(access: Access, name: str, paths: Iterable[str], *, only_files: bool = False) -> Command:
    """The same for parse_contents: borg reads and decrypts every file for its hash."""
    return _list(access, name, CONTENT_FORMAT, _files(paths) if only_files else _exactly(paths))


def _list(access: Access, name: str, wanted: str, patterns: Sequence[str]) -> Command:
    return access.command(
        "list", "--log-json", "--bypass-lock", f"--format={wanted}", access.archive(name),
        *(["--", *patterns] if patterns else []), env={"PYTHONIOENCODING": "unicode_escape"},
    )  # fmt: skip


def diff(access: Access, before: str, after: str) -> Command:
    """Prints what differs between two archives for changes.parse_changes; waits for nobody."""
    return access.command(
        "diff", "--log-json", "--bypass-lock", "--json-lines", "--", access.archive(before), literally(after)
    )


def rename(access: Access, name: str, new: str) -> Command:
    """Gives an archive another name; and, in borg 1, another id."""
    return access.command(
        "rename", "--log-json", f"--lock-wait={LOCK_WAIT_SECONDS}", "--", access.archive(name), literally(new)
    )


def extract(access: Access, name: str, paths: Iterable[str], *, directory: str) -> Command:
    """Extract `paths` (none: everything) below `directory`; waits for nobody."""
    return access.command(
        "extract", "--log-json", "--progress", "--bypass-lock", access.archive(name), "--", *_exactly(paths),
        cwd=directory,
    )  # fmt: skip


def extract_content(access: Access, name: str, paths: Iterable[str], *, directory: str) -> Command:
    """Extract the files `paths` and no other (none: everything), without what only their own machine may take.

    Flags as "immutable" would stay in nobody's way there. Borg 1.2 warns of each path: see export_files.
    """
    return access.command(
        "extract", "--log-json", "--progress", "--bypass-lock", "--noflags", "--noacls", "--noxattrs",
        access.archive(name), "--", *_files(paths), cwd=directory,
    )  # fmt: skip


def extract_to_stdout(access: Access, name: str, path: str) -> Command:
    """Prints the content of one file."""
    return access.command(
        "extract", "--log-json", "--bypass-lock", "--stdout", access.archive(name), "--", *_exactly([path])
    )


def export_tar(access: Access, name: str, path: str) -> Command:
    """Prints a tar of one folder ("": of everything) in GNU's format: no ACLs, no xattrs, times to the second."""
    return _export_tar(access, name, _exactly([path] if path else []))


def export_files(access: Access, name: str, paths: Iterable[str]) -> Command:
    """Prints a tar of these files and no other.

    `pf:` costs the same for one file and for a thousand; but borg 1.2 ends with a warning of each.
    """
    return _export_tar(access, name, _files(paths))


def _export_tar(access: Access, name: str, patterns: Iterable[str]) -> Command:
    return access.command("export-tar", "--log-json", "--bypass-lock", access.archive(name), "-", "--", *patterns)


def export_tar_of(access: Access, name: str, paths: Iterable[str]) -> Command:
    """Prints a tar of `paths` (none: everything): no ACLs, no extended attributes, times in whole seconds."""
    return access.command(
        "export-tar", "--log-json", "--progress", "--bypass-lock", "--tar-filter=cat", access.archive(name), "-",
        "--", *_exactly(paths),
    )  # fmt: skip


def mount(access: Access, name: str, folder: str) -> Command:
    """Show an archive at `folder`, for the user that borg runs as alone; borg stays, in the background.

    A lock would keep every backup waiting as long as it is mounted.
    """
    return access.command(
        "mount", "--log-json", "--bypass-lock", "-o", "ignore_permissions", access.archive(name), folder
    )


def break_lock(access: Access) -> Command:
    """Removes the locks of the repository and of borg's cache here, whoever holds them."""
    return access.command("break-lock", "--log-json", access.location)


def serve_only(borg: str, path: str) -> Command:
    """What a server's key may do at an SSH account: reach one repository, and only add to it."""
    return Command((borg, "serve", "--append-only", f"--restrict-to-repository={path}", "--umask=077"))


def serve(borg: str, path: str, *, base_dir: str, host_id: str = "") -> Command:
    """Our end of a relay: the same."""
    return replace(
        serve_only(borg, path),
        env={
            "BORG_BASE_DIR": base_dir,
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            **({"BORG_HOST_ID": host_id} if host_id else {}),
        },
    )


def version(borg: str) -> Command:
    return Command((borg, "--version"))


def _exactly(paths: Iterable[str]) -> list[str]:
    """Each path itself and what is below it: no pattern, whatever characters it has.

    Not `pf:`: borg 1.2 says of every one that it never matched, and exits 1.
    """
    return [f"pp:{path}" for path in paths]


def _files(paths: Iterable[str]) -> list[str]:
    """Each path itself, and nothing below it: at the same cost for one and for a thousand."""
    return [f"pf:{path}" for path in paths]
