"""Borg's command lines, as data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from servers.ssh.command import Command

LOCK_WAIT_SECONDS = 60
CHECKPOINT_SECONDS = 600

# The fields of one entry, each followed by NUL. Borg replaces what is not UTF-8 when it writes text,
# in `bpath` and in JSON too; with Python's codec `unicode_escape` it writes every name exactly, and
# so that the bytes can be had back (results.Listing). Tried with borg 1.2.4, 1.2.9 and 1.4.5.
LISTING_FIELDS = ("mode", "user", "group", "size", "isomtime", "source", "health", "bpath")
LISTING_FORMAT = "".join(f"{{{name}}}{{NUL}}" for name in LISTING_FIELDS)


@dataclass(frozen=True)
class Access:
    """How a borg gets at one repository from the machine on which it runs."""

    location: str  # a path there, or an ssh:// URL
    passphrase: str = field(default="", repr=False)
    borg: str = "borg"
    rsh: str = ""  # BORG_RSH, when the location is an ssh:// URL
    base_dir: str = ""  # where borg keeps its cache and its memory of repositories; "": its default
    as_root: bool = False  # borg must read (or write) every file of that machine

    def archive(self, name: str) -> str:
        return f"{self.location}::{name}"

    def command(self, *words: str, cwd: str | None = None, env: dict[str, str] | None = None) -> Command:
        return Command(
            (self.borg, *words),
            env={**self._environment(), **(env or {})},
            stdin=self.passphrase.encode(),
            cwd=cwd,
            as_root=self.as_root,
        )

    def _environment(self) -> dict[str, str]:
        settings = {
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "BORG_EXIT_CODES": "modern",
            "BORG_PASSPHRASE_FD": "0",
            "BORG_DISPLAY_PASSPHRASE": "no",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "no",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "no",
        }
        if self.rsh:
            settings["BORG_RSH"] = self.rsh
        if self.base_dir:
            settings["BORG_BASE_DIR"] = self.base_dir
        return settings


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


def list_files(access: Access, name: str) -> Command:
    """Prints every entry of an archive for results.Listing; waits for nobody."""
    return access.command(
        "list", "--log-json", "--bypass-lock", f"--format={LISTING_FORMAT}", access.archive(name),
        env={"PYTHONIOENCODING": "unicode_escape"},
    )  # fmt: skip


def extract(access: Access, name: str, paths: Iterable[str], *, directory: str) -> Command:
    """Extract `paths` (none: everything) below `directory`; waits for nobody."""
    return access.command(
        "extract", "--log-json", "--progress", "--bypass-lock", access.archive(name), "--", *_exactly(paths),
        cwd=directory,
    )  # fmt: skip


def extract_to_stdout(access: Access, name: str, path: str) -> Command:
    """Prints the content of one file."""
    return access.command(
        "extract", "--log-json", "--bypass-lock", "--stdout", access.archive(name), "--", *_exactly([path])
    )


def export_tar(access: Access, name: str, path: str) -> Command:
    """Prints a tar of one folder (borg's tar knows no ACLs and no extended attributes)."""
    return access.command(
        "export-tar",
        "--log-json",
        "--bypass-lock",
        "--tar-filter=cat",
        access.archive(name),
        "-",
        "--",
        *_exactly([path]),
    )


def serve(borg: str, path: str, *, base_dir: str) -> Command:
    """Our end of a relay: one repository, to which things can only be added."""
    return Command(
        (borg, "serve", "--append-only", f"--restrict-to-repository={path}", "--umask=077"),
        env={"BORG_BASE_DIR": base_dir, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
    )


def version(borg: str) -> Command:
    return Command((borg, "--version"))


def _exactly(paths: Iterable[str]) -> list[str]:
    """Each path itself and what is below it: no pattern, whatever characters it has.

    Not `pf:`: borg 1.2 says of every one that it never matched, and exits 1.
    """
    return [f"pp:{path}" for path in paths]
