"""What an existing repository tells of itself: its folder, and borg about its archives."""

import codecs
import configparser
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backups.borg.results import ARCHIVE_ID, CreateResult, Unreadable, parse_info
from jobs.errors import Cause, Failure
from jobs.log import storable_values

CONFIG_LIMIT = 256 * 1024  # bytes of a repository's `config`; a key in it has about a thousand
DESCRIPTION_LIMIT = 4 * 1024 * 1024  # characters of one archive's description; its command line is most of it
COMMAND_LINE_LIMIT = 64 * 1024  # characters of it that we keep
BEGINNING = re.compile(r'"archives"\s*:\s*\[')
BETWEEN = " \t\r\n,"


# --- The folder -------------------------------------------------------------------------------


class NoRepository(Failure):
    cause = Cause.DISK
    advice = "Choose the folder in which borg's own files lie: `config`, `data` and some more."


def look_at(path: Path) -> str:
    """The id of the borg 1 repository at `path`, as its `config` tells. Raises NoRepository."""
    try:
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist on the worker's machine"
            raise NoRepository(f"{path} {what}.")
        if not any(path.iterdir()):
            raise NoRepository(f"{path} is empty: there is no repository in it.")
        config = path / "config"
        if config.is_dir():  # borg 2 keeps what was one file in a folder
            raise _too_new(path)
        if not config.is_file():
            raise NoRepository(f"{path} is no borg repository: it has no file “config”.")
        with config.open(encoding="utf-8") as file:
            return _id_in(file.read(CONFIG_LIMIT), path)
    except PermissionError as error:
        advice = "Let phpBorg's user read it, and write to it if backups are to go there."
        raise NoRepository(f"We may not read {path} on the worker's machine.", advice=advice) from error
    except OSError as error:
        raise NoRepository(f"{path} cannot be read on the worker's machine: {error.strerror}.") from error


def _id_in(text: str, path: Path) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        version, repository_id = parser.getint("repository", "version"), parser.get("repository", "id").strip()
    except (configparser.Error, ValueError) as error:
        raise NoRepository(f"{path} is no borg repository: its file “config” is not one of borg's.") from error
    if version != 1:
        raise _too_new(path)
    if not ARCHIVE_ID.fullmatch(repository_id):
        raise NoRepository(f"{path} is no borg repository: the id in its file “config” is not one of borg's.")
    return repository_id


def _too_new(path: Path) -> NoRepository:
    advice = "Go on using it with borg 2, or let the server begin a new one here."
    return NoRepository(f"{path} is a repository of borg 2. phpBorg works with those of borg 1.", advice=advice)


# --- What `borg info` tells of all archives -------------------------------------------------------


@dataclass(frozen=True)
class Described:
    result: CreateResult
    command_line: str


def parse_descriptions(chunks: Iterable[bytes], about: bytes) -> Iterator[Described]:
    """Read what `info --json --glob-archives='*'` prints, piece by piece: one archive is in memory at a time.

    `about` is what `info --json` printed of the repository alone. Raises Unreadable.
    """
    try:
        repository = json.loads(about)
    except ValueError as error:
        raise Unreadable("borg's description of the repository is none") from error
    for archive in _archives(chunks):
        result = parse_info(json.dumps({**repository, "archives": [archive]}).encode())
        yield Described(result, command_line(archive.get("command_line")))


def _archives(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    scan = json.JSONDecoder().raw_decode
    text, begun = "", False
    for chunk in chunks:
        text += decode(chunk)
        if not begun and (found := BEGINNING.search(text)):
            text, begun = text[found.end() :], True
        while begun and (text := text.lstrip(BETWEEN)) and not text.startswith("]"):
            try:
                archive, end = scan(text)
            except (ValueError, RecursionError):  # only a part of it has come yet, or it is none
                break
            if not isinstance(archive, dict):
                raise Unreadable("borg's description of an archive is none")
            yield archive
            text = text[end:]
        if begun and text.startswith("]"):
            text, begun = "]", True  # the rest is about the repository
        elif len(text) > DESCRIPTION_LIMIT:
            raise Unreadable("borg's description of an archive is longer than any can be")
    if not begun or not text.startswith("]"):
        raise Unreadable("borg's description of the archives ends in the middle")


def command_line(words: Any) -> str:
    """What borg keeps of how an archive was made, as somebody would type it: a list of words, or already a line."""
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        words = shlex.join(words)
    text: str = storable_values(words if isinstance(words, str) else "")
    return text[:COMMAND_LINE_LIMIT]
