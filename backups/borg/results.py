"""What borg prints on standard output, as values."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from backups.borg.commands import LISTING_FIELDS

ARCHIVE_ID = re.compile(r"[0-9a-f]{64}")
RECORD_LIMIT = 256 * 1024  # characters of one entry's escaped text; a path may have 4,096 bytes
MOST_BEGINNINGS = 100  # a line with a brace costs a look at all that follows
LONGEST_SECONDS = 10**9
MOST_NAMES = 100_000


class Unreadable(ValueError):
    """Borg's answer is not what it should be; the text says what is wrong with it."""


@dataclass(frozen=True)
class Totals:
    """Of all archives of a repository together, in bytes."""

    original: int
    compressed: int  # before deduplication
    deduplicated: int  # what the repository takes on disk, about


@dataclass(frozen=True)
class CreateResult:
    """An archive: the proof of a backup. Sizes in bytes, times in UTC, duration in seconds."""

    archive_id: str
    name: str
    repository_id: str
    start: datetime
    end: datetime
    duration: float
    original: int
    compressed: int
    deduplicated: int
    files: int
    repository: Totals


@dataclass(frozen=True)
class ArchiveInfo:
    archive_id: str
    name: str
    start: datetime


@dataclass(frozen=True)
class RepositoryInfo:
    repository_id: str
    encryption: str
    archives: tuple[ArchiveInfo, ...]


@dataclass(frozen=True)
class Entry:
    """One file, folder or other thing in an archive; `path` has no leading slash."""

    path: bytes
    mode: str  # as `ls -l` shows it; borg writes "h" first for a hard link to an earlier entry
    user: str
    group: str
    size: int  # bytes; 0 for a hard link to an earlier entry
    modified_at: datetime | None
    link: bytes  # a symlink's target (with "?" for bytes that are not UTF-8), or the earlier entry of a hard link
    healthy: bool
    sha256: str = ""  # of a file's content, if borg was asked for it; never of a hard link to an earlier entry


def parse_create(stdout: bytes) -> CreateResult:
    """Read what `create --json` printed. Raises Unreadable."""
    data = _object_with("archive", stdout)
    try:
        return _archive(data["archive"], data)
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"borg's description of the archive is incomplete ({error})") from error


def parse_info(stdout: bytes) -> CreateResult:
    """Read what `info --json` printed of one archive. Raises Unreadable."""
    data = _object_with("archives", stdout)
    try:
        (archive,) = data["archives"]
        return _archive(archive, data)
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"borg's description of the archive is incomplete ({error})") from error


def parse_totals(stdout: bytes) -> Totals:
    """Read what `info --json` printed of the whole repository. Raises Unreadable."""
    data = _object_with("cache", stdout)
    try:
        return _totals(data)
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"borg's description of the repository is incomplete ({error})") from error


def _archive(archive: dict[str, Any], data: dict[str, Any]) -> CreateResult:
    stats = archive["stats"]
    return CreateResult(
        archive_id=_archive_id(archive["id"]),
        name=_text(archive["name"]),
        repository_id=_archive_id(data["repository"]["id"]),
        start=_time(archive["start"]),
        end=_time(archive["end"]),
        duration=_seconds(archive["duration"]),
        original=_size(stats["original_size"]),
        compressed=_size(stats["compressed_size"]),
        deduplicated=_size(stats["deduplicated_size"]),
        files=_size(stats["nfiles"]),
        repository=_totals(data),
    )


def _totals(data: dict[str, Any]) -> Totals:
    totals = data["cache"]["stats"]
    return Totals(_size(totals["total_size"]), _size(totals["total_csize"]), _size(totals["unique_csize"]))


def parse_archives(stdout: bytes) -> RepositoryInfo:
    """Read what `list --json` printed. Raises Unreadable."""
    data = _object_with("archives", stdout)
    try:
        return RepositoryInfo(
            _archive_id(data["repository"]["id"]),
            _text(data["encryption"]["mode"]),
            tuple(
                ArchiveInfo(_archive_id(item["id"]), _text(item["name"]), _time(item["start"]))
                for item in data["archives"]
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"borg's list of archives is incomplete ({error})") from error


def parse_key(stdout: bytes) -> str:
    """Read what `key export` printed. Raises Unreadable."""
    text = stdout.decode("ascii", "replace")
    found = re.search(r"BORG_KEY [0-9a-f]{64}\n[A-Za-z0-9+/=][A-Za-z0-9+/=\n]*", text)
    if not found:
        raise Unreadable("borg printed no key")
    return found.group(0).rstrip("\n") + "\n"


def parse_files(chunks: Iterable[bytes]) -> Iterator[Entry]:
    """Read what `list_files` prints, piece by piece, in bounded memory. Raises Unreadable."""
    files = _Names()
    for fields in _records(chunks, len(LISTING_FIELDS)):
        yield files.mend(_entry(fields))


def parse_contents(chunks: Iterable[bytes]) -> Iterator[Entry]:
    """The same of `list_contents`, with hashes."""
    files = _Names()
    for *fields, sha256 in _records(chunks, len(LISTING_FIELDS) + 1):
        yield files.mend(_entry(fields, sha256[:64]))


def _records(chunks: Iterable[bytes], length: int) -> Iterator[list[str]]:
    """So many fields at a time, each with a NUL at its end. Raises Unreadable."""
    decoder = codecs.getincrementaldecoder("unicode_escape")()
    rest: list[str] = []
    tail = ""
    try:
        for chunk in chunks:
            *told, tail = (tail + decoder.decode(chunk)).split("\0")
            if len(tail) > RECORD_LIMIT:
                raise Unreadable("an entry of the listing is longer than any file name can be")
            rest += told
            whole = len(rest) - len(rest) % length
            for start in range(0, whole, length):
                yield rest[start : start + length]
            del rest[:whole]
        tail += decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise Unreadable("the listing is not what borg writes") from error
    if rest or tail:
        raise Unreadable("the listing ends in the middle of an entry")


class _Names:
    """Which file borg means when it names one with "?" for each byte that is not UTF-8, as in hard links."""

    def __init__(self) -> None:
        self._meant: dict[bytes, bytes] = {}

    def mend(self, entry: Entry) -> Entry:
        if entry.mode.startswith("h") and b"?" in entry.link:
            return replace(entry, link=self._meant.get(entry.link, entry.link))
        if entry.mode.startswith("-") and (b"?" in entry.path or not entry.path.isascii()):
            shown = entry.path.decode("utf-8", "surrogateescape").encode("utf-8", "replace")
            if b"?" in shown and len(self._meant) < MOST_NAMES:
                self._meant[shown] = shown if shown in self._meant else entry.path  # two: nobody knows which
        return entry


def _entry(fields: list[str], sha256: str = "") -> Entry:
    mode, user, group, size, modified_at, link, health, path = fields
    try:
        return Entry(
            path=path.encode("utf-8", "surrogateescape"),
            mode=mode[:10],
            user=user[:64],
            group=group[:64],
            size=_size(int(size)),
            modified_at=_time(modified_at) if modified_at else None,
            link=link.encode("utf-8", "surrogateescape"),
            healthy=health == "healthy",
            sha256=sha256,
        )
    except (ValueError, OverflowError) as error:
        raise Unreadable(f"an entry of the listing is not what borg writes ({error})") from error


def _object_with(key: str, stdout: bytes) -> dict[str, Any]:
    """The JSON object that has `key`; a chatty shell may have printed before it, and not ended its last line."""
    text = stdout.decode("utf-8", "surrogateescape")
    decoder = json.JSONDecoder()
    for found in islice(re.finditer(r"^\{|\{$", text, re.MULTILINE), MOST_BEGINNINGS):
        try:
            data, _ = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict) and key in data:
            return data
    raise Unreadable("borg printed no result")


def _archive_id(value: Any) -> str:
    if not isinstance(value, str) or not ARCHIVE_ID.fullmatch(value):
        raise ValueError("an id is not 64 hexadecimal digits")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 1000:
        raise ValueError("a name is not text")
    value.encode()  # ValueError for halves of characters: JSON may hold them, a database may not
    return value


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("a size is not a number of bytes")
    return value


def _seconds(value: Any) -> float:
    """A duration; borg's is negative when the clock was set back meanwhile."""
    if type(value) not in {int, float} or not -LONGEST_SECONDS < value < LONGEST_SECONDS:
        raise ValueError("a duration is not a number of seconds")
    return max(0.0, float(value))


def _time(value: Any) -> datetime:
    """Borg writes local times without a zone; TZ=UTC made them UTC."""
    if not isinstance(value, str):
        raise ValueError("a time is not text")  # noqa: TRY004
    time = datetime.fromisoformat(value)
    try:
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError("a time is none that there is") from error
