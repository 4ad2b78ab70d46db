"""The plan that an archive was made by, as far as its command line tells."""

import argparse
import posixpath
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from django.core.exceptions import ValidationError

from backups.fields import validate_compression
from backups.models import Archive, Repository
from backups.sources.base import LINE_BYTES, MOST_LINES

MOST_WORDS = 10_000
LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class Proposal:
    """What a plan would have to be to save the same; nothing in it has been validated as a plan's form does."""

    paths: tuple[str, ...]
    excludes: tuple[str, ...] = ()
    compression: str = ""  # "": it did not say
    one_file_system: bool = False
    exclude_caches: bool = False
    upload_kib_per_second: int = 0
    repository: int | None = None
    left_out: tuple[str, ...] = ()  # what a plan cannot say, as it was typed

    @property
    def of_plan(self) -> dict[str, Any]:
        """By the fields of PlanForm."""
        values = {
            "compression": self.compression, "upload_kib_per_second": self.upload_kib_per_second,
            "repository": self.repository,
        }  # fmt: skip
        return {name: value for name, value in values.items() if value}

    @property
    def of_files(self) -> dict[str, Any]:
        """By the fields of FilesForm."""
        return {
            "paths": list(self.paths), "excludes": list(self.excludes), "one_file_system": self.one_file_system,
            "exclude_caches": self.exclude_caches,
        }  # fmt: skip


# The options of `borg create` (1.0 to 1.4). What matters for what is saved, and a plan has no word for:
UNKNOWN_TO_PLANS = {
    "--exclude-from": 1, "--pattern": 1, "--patterns-from": 1, "--exclude-if-present": 1, "--stdin-name": 1,
    "--chunker-params": 1, "--keep-exclude-tags": 0, "--keep-tag-files": 0, "--exclude-nodump": 0, "--read-special": 0,
    "--content-from-command": 0, "--paths-from-stdin": 0, "--paths-from-command": 0, "--noacls": 0, "--noxattrs": 0,
    "--noflags": 0, "--nobsdflags": 0, "--numeric-ids": 0, "--numeric-owner": 0, "--sparse": 0, "--ignore-inode": 0,
}  # fmt: skip
# And what does not: with a word after it, and alone.
WITHOUT_MEANING = {
    "--lock-wait": 1, "--umask": 1, "--remote-path": 1, "--remote-buffer": 1, "--upload-buffer": 1, "--rsh": 1,
    "--debug-topic": 1, "--debug-profile": 1, "--comment": 1, "--timestamp": 1, "-c": 1, "--checkpoint-interval": 1,
    "--files-cache": 1, "--filter": 1, "--stdin-user": 1, "--stdin-group": 1, "--stdin-mode": 1,
    "--paths-delimiter": 1, "--files-changed": 1,
    "-n": 0, "--dry-run": 0, "-s": 0, "--stats": 0, "--list": 0, "--json": 0, "--no-files-cache": 0,
    "--no-cache-sync": 0, "--atime": 0, "--noatime": 0, "--noctime": 0, "--nobirthtime": 0, "-v": 0, "--verbose": 0,
    "--info": 0, "--debug": 0, "--critical": 0, "--error": 0, "--warning": 0, "-p": 0, "--progress": 0,
    "--log-json": 0, "--show-version": 0, "--show-rc": 0, "--bypass-lock": 0, "--consider-part-files": 0,
}  # fmt: skip
NO_PATHS = {"--content-from-command", "--paths-from-stdin", "--paths-from-command"}  # what follows is a command


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


class _LeaveOut(argparse.Action):
    """Remember an option that a plan does not know, as it was typed."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        word = [values] if isinstance(values, str) else []
        namespace.left_out = [*(namespace.left_out or []), shlex.join([str(option_string), *word])]
        namespace.no_paths = getattr(namespace, "no_paths", False) or self.option_strings[0] in NO_PATHS


def _parser() -> _Parser:
    """Borg's own parser is one of these, so abbreviations and `-xsv` mean the same here."""
    parser = _Parser(add_help=False)
    parser.add_argument("-e", "--exclude", dest="excludes", action="append", default=[])
    parser.add_argument("-C", "--compression", default="")
    parser.add_argument("-x", "--one-file-system", action="store_true")
    parser.add_argument("--exclude-caches", action="store_true")
    parser.add_argument("--upload-ratelimit", "--remote-ratelimit", dest="upload", type=int, default=0)
    parser.set_defaults(left_out=[], no_paths=False)
    for name, words in UNKNOWN_TO_PLANS.items():
        parser.add_argument(name, dest="left_out", action=_LeaveOut, nargs=None if words else 0)
    for name, words in WITHOUT_MEANING.items():
        if words:
            parser.add_argument(name, dest="ignored")
        else:
            parser.add_argument(name, dest="ignored", action="store_true")
    parser.add_argument("archive", nargs="?", default="")
    parser.add_argument("paths", nargs="*", default=[])
    return parser


def propose(made_with: Sequence[str] | str) -> Proposal | None:
    """The plan that would save what `borg create ...` saved; None when it was no such command, or not understood.

    Takes the words as borg's JSON has them, or one line of them quoted for a shell.
    """
    try:
        words = shlex.split(made_with) if isinstance(made_with, str) else list(made_with)
        if len(words) > MOST_WORDS or "create" not in words:
            return None
        options, others = _parser().parse_known_args(words[words.index("create") + 1 :])
    except (ValueError, argparse.ArgumentError):
        return None
    left_out = [*options.left_out, *(word for word in others if word.startswith("-"))]
    typed = [] if options.no_paths else [*options.paths, *(word for word in others if not word.startswith("-"))]
    absolute = [path for path in typed if path.startswith("/")]
    paths = _fit((posixpath.normpath(f"/{path.lstrip('/')}") for path in absolute), left_out)
    left_out += [path for path in typed if not path.startswith("/")]
    excludes = _fit(options.excludes, left_out)
    compression = options.compression if _is_known(options.compression) else ""
    if options.compression != compression:
        left_out.append(shlex.join(["--compression", options.compression]))
    if not paths:
        return None
    return Proposal(
        paths, excludes, compression, options.one_file_system, options.exclude_caches,
        max(0, min(options.upload, LARGEST_NUMBER)), left_out=_fit(left_out, []),
    )  # fmt: skip


def _fit(lines: Iterable[str], left_out: list[str]) -> tuple[str, ...]:
    """Each line once, if it is one that a form takes; the others go to `left_out`."""
    fits: dict[str, None] = {}
    for line in lines:
        one_line = bool(line.strip()) and not {"\n", "\r", "\0"} & set(line)
        if one_line and len(line.encode("utf-8", "surrogatepass")) <= LINE_BYTES and len(fits) < MOST_LINES:
            fits[line] = None
        else:
            left_out.append(repr(line[:60]))
    return tuple(fits)


def _is_known(compression: str) -> bool:
    try:
        validate_compression(compression)
    except ValidationError:
        return not compression
    return len(compression) <= 20


def proposal_for(repository: Repository) -> Proposal | None:
    """From the newest archive that was there when the repository came to us; None once it has a plan of ours."""
    if repository.plans.exists():
        return None
    archives = Archive.objects.filter(repository=repository).exclude(command_line="")
    newest = archives.order_by("-start", "-id").values_list("command_line", flat=True).first()
    proposal = propose(newest) if newest else None
    return replace(proposal, repository=repository.pk) if proposal else None
