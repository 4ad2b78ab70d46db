"""What borg tells of all archives, read piece by piece; and the folder of a repository."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backups.borg.results import Unreadable
from backups.importing import COMMAND_LINE_LIMIT, DESCRIPTION_LIMIT, NoRepository, command_line, look_at
from backups.importing import parse_descriptions as parse
from tests.backups.replay import description

ABOUT = {key: value for key, value in description("x").items() if key != "archive"}


def archive(number: int, **changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = description(f"web-{number}", archive_id=f"{number:064x}", files=number)["archive"]
    return told | changes


def said(*archives: Any) -> bytes:
    return json.dumps({"archives": archives, **ABOUT}, indent=4).encode()


def pieces(text: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("count", [0, 1, 30])
def test_every_archive_is_read_however_it_comes(size: int, count: int) -> None:
    text = b"noise\n" + said(*(archive(number) for number in range(count)))
    found = list(parse(pieces(text, size), json.dumps(ABOUT).encode()))
    assert [(each.result.name, each.result.files) for each in found] == [(f"web-{n}", n) for n in range(count)]
    assert {each.result.repository_id for each in found} <= {"ab" * 32}
    assert {each.command_line for each in found} <= {"borg create"}


def test_names_may_have_anything_in_them() -> None:
    names = ['"archives": [', "]}", "é☃\U0001f600", "a\\", "--option", "../../x", "{now}"]
    text = said(*(archive(number, name=name) for number, name in enumerate(names)))
    found = parse(pieces(text, 5), json.dumps(ABOUT).encode())
    assert [each.result.name for each in found] == names


def test_only_one_archive_is_in_memory_at_a_time() -> None:
    """A million of them would not fit: the source must be asked for the next piece only when it is needed."""
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        yield b'{"archives": ['
        while True:
            read += 1
            yield json.dumps(archive(read)).encode() + b","

    found = parse(endless(), json.dumps(ABOUT).encode())
    for number in range(1, 50):
        assert next(found).result.name == f"web-{number}"
        assert read == number


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "ends in the middle"),
        (b"borg: command not found", "ends in the middle"),
        (said(archive(1))[:300], "ends in the middle"),
        (b'{"archives": [', "ends in the middle"),
        (b'{"archives": [nonsense]}', "ends in the middle"),
        (b'{"archives": [1]}', "is none"),
        (b'{"archives": [{}]}', "incomplete"),
        (said(archive(1, name="\ud800")), "not text|surrogates"),
        (said(archive(1, stats={})), "incomplete"),
        (b'{"archives": [' + b"[" * 100_000, "ends in the middle"),
        (b'{"archives": [{"name": "' + b"x" * (DESCRIPTION_LIMIT + 1), "longer than any can be"),
        (b"x" * (DESCRIPTION_LIMIT + 1), "longer than any can be"),
    ],
)
def test_what_is_no_description_is_refused(text: bytes, sentence: str) -> None:
    with pytest.raises(Unreadable) as error:
        list(parse(pieces(text, 65536), json.dumps(ABOUT).encode()))
    assert any(part in str(error.value) for part in sentence.split("|")), error.value


def test_what_is_said_of_the_repository_must_be_readable() -> None:
    with pytest.raises(Unreadable, match="of the repository is none"):
        list(parse([said(archive(1))], b"nonsense"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["borg", "create", "a b", "it's"], "borg create 'a b' 'it'\"'\"'s'"),
        ("borg create x", "borg create x"),
        (["a", 1], ""),
        (None, ""),
        ({"a": 1}, ""),
        (["\udcff", "a\0b"], "'\\udcff' 'a\\0b'"),
        (["x" * 10**6], "x" * COMMAND_LINE_LIMIT),
    ],
)
def test_a_command_line_is_kept_as_text_that_any_database_takes(words: Any, line: str) -> None:
    assert command_line(words) == line


def test_a_folder_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)  # tests may run as root, who may read everything
    with pytest.raises(NoRepository, match=r"^We may not read ") as error:
        look_at(tmp_path)
    assert error.value.own_advice.startswith("Let phpBorg's user read it")


def test_a_config_that_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """A pipe would keep us waiting for ever."""
    (tmp_path / "config").symlink_to("/dev/zero")
    with pytest.raises(NoRepository, match="it has no file “config”"):
        look_at(tmp_path)


def test_a_huge_config_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "config").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(NoRepository, match="is not one of borg's"):
        look_at(tmp_path)
