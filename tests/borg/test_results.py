"""backups.borg.results: what borg prints on standard output, as values."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.borg.results import CreateResult, Totals, Unreadable, parse_archives, parse_create, parse_key
from tests.borg.recorded import VERSIONS, recorded

ID = "ab" * 32
CREATED: dict[str, Any] = {
    "archive": {
        "id": ID, "name": "web-1-files", "start": "2026-01-02T03:04:05.000000", "end": "2026-01-02T03:05:05.000000",
        "duration": 60.5, "command_line": ["borg", "create"], "limits": {"max_archive_size": 0.1},
        "stats": {"original_size": 100, "compressed_size": 60, "deduplicated_size": 20, "nfiles": 7},
    },
    "cache": {"path": "/cache", "stats": {"total_size": 900, "total_csize": 500, "unique_csize": 50}},
    "encryption": {"mode": "repokey-blake2"},
    "repository": {"id": "cd" * 32, "location": "/pool/web-1", "last_modified": "2026-01-02T03:05:05.000000"},
}  # fmt: skip
LISTED: dict[str, Any] = {
    "archives": [{"id": ID, "name": "a", "archive": "a", "start": "2026-01-02T03:04:05.000000"}],
    "encryption": {"mode": "repokey-blake2"},
    "repository": {"id": "cd" * 32},
}


def changed(data: dict[str, Any], *path: str | int, to: object) -> bytes:
    """`data` as borg prints it, with something else at `path`."""
    copy = json.loads(json.dumps(data))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return json.dumps(copy, indent=4).encode()


def without(data: dict[str, Any], *path: str | int) -> bytes:
    copy = json.loads(json.dumps(data))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return json.dumps(copy, indent=4).encode()


# --- create -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_backup_is_read(version: str) -> None:
    run = recorded(version, "create")
    result = parse_create(run.stdout)
    assert (run.code, result.name, result.files) == (0, "first", 11)
    assert 200 < result.compressed <= result.repository.compressed + 2_000
    assert result.start.tzinfo == UTC
    assert timedelta(0) <= result.end - result.start < timedelta(minutes=1)
    assert 0 < result.duration < 60
    assert result.archive_id != result.repository_id


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_backup_with_warnings_is_a_proof_all_the_same(version: str) -> None:
    run = recorded(version, "create_with_warnings")
    assert (run.code, parse_create(run.stdout).files) == (1, 1)
    assert [message.text.split(":")[0].rpartition("/")[2] for message in run.messages] == ["secret", "closed", "gone"]


@pytest.mark.parametrize(("version", "code"), [("1.2.4", 1), ("1.2.9", 1), ("1.4.5", 107)])
def test_a_recorded_backup_of_nothing_is_an_archive(version: str, code: int) -> None:
    run = recorded(version, "create_of_nothing")
    result = parse_create(run.stdout)
    assert (run.code, result.name, result.files) == (code, "b", 0)
    assert result.original < 1_000  # borg 1.2 counts its own description of the archive


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["create_again", "locked", "disk_full", "quota"])
def test_a_recorded_failure_proves_no_archive(version: str, case: str) -> None:
    with pytest.raises(Unreadable, match="printed no result"):
        parse_create(recorded(version, case).stdout)


def test_every_field_of_a_backup_is_taken_from_its_place() -> None:
    assert parse_create(json.dumps(CREATED).encode()) == CreateResult(
        archive_id=ID, name="web-1-files", repository_id="cd" * 32, start=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        end=datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC), duration=60.5, original=100, compressed=60, deduplicated=20,
        files=7, repository=Totals(900, 500, 50),
    )  # fmt: skip


MISSING = [
    ("archive", "id"), ("archive", "name"), ("archive", "start"), ("archive", "end"), ("archive", "duration"),
    ("archive", "stats"), ("archive", "stats", "original_size"), ("archive", "stats", "compressed_size"),
    ("archive", "stats", "deduplicated_size"), ("archive", "stats", "nfiles"), ("cache",), ("cache", "stats"),
    ("cache", "stats", "total_size"), ("cache", "stats", "total_csize"), ("cache", "stats", "unique_csize"),
    ("repository",), ("repository", "id"),
]  # fmt: skip


@pytest.mark.parametrize("path", MISSING, ids=".".join)
def test_a_backup_without_one_of_its_fields_is_unreadable(path: tuple[str, ...]) -> None:
    with pytest.raises(Unreadable, match="incomplete"):
        parse_create(without(CREATED, *path))


FORGERIES: list[object] = [None, True, [], {}, [[]], 1.5, -1, "\ud800"]


@pytest.mark.parametrize("forged", FORGERIES, ids=repr)
@pytest.mark.parametrize("path", [path for path in MISSING if path[-1] != "duration"], ids=".".join)
def test_a_forged_field_of_a_backup_is_unreadable(path: tuple[str, ...], forged: object) -> None:
    with pytest.raises(Unreadable):
        parse_create(changed(CREATED, *path, to=forged))


@pytest.mark.parametrize("archive", [None, 7, [], [1], "text", True], ids=repr)
def test_an_archive_that_is_no_object_is_unreadable(archive: object) -> None:
    with pytest.raises(Unreadable):
        parse_create(changed(CREATED, "archive", to=archive))


IDS = [
    "",
    "ab",
    ID + "0",
    ID[:-1],
    ID.upper(),
    "zz" * 32,
    f"{ID}\n",
    f" {ID}",
    "../" * 21 + "x",
    "--option",
    ID[:-1] + "٣",
]


@pytest.mark.parametrize("forged", IDS, ids=repr)
@pytest.mark.parametrize("path", [("archive", "id"), ("repository", "id")], ids=".".join)
def test_an_id_that_is_not_64_hexadecimal_digits_is_unreadable(path: tuple[str, ...], forged: str) -> None:
    with pytest.raises(Unreadable, match="64 hexadecimal digits"):
        parse_create(changed(CREATED, *path, to=forged))


@pytest.mark.parametrize("size", [-1, 2**63, 10**300, 1.0, "1", True, False, float("nan")], ids=repr)
@pytest.mark.parametrize("key", ["original_size", "compressed_size", "deduplicated_size", "nfiles"])
def test_a_size_that_is_no_number_of_bytes_is_unreadable(key: str, size: object) -> None:
    with pytest.raises(Unreadable, match="not a number of bytes"):
        parse_create(changed(CREATED, "archive", "stats", key, to=size))


@pytest.mark.parametrize("size", [0, 1, 2**63 - 1])
def test_a_size_may_be_all_that_a_database_holds(size: int) -> None:
    assert parse_create(changed(CREATED, "archive", "stats", "nfiles", to=size)).files == size


@pytest.mark.parametrize("name", ["", "x" * 1001, "\ud800", "a\udcff"], ids=["empty", "long", "half", "not UTF-8"])
def test_a_name_that_cannot_be_stored_is_unreadable(name: str) -> None:
    with pytest.raises(Unreadable, match="incomplete"):
        parse_create(changed(CREATED, "archive", "name", to=name))


@pytest.mark.parametrize(
    "name", ["x", "../../x", "--option", "<script>", "a b\nc", "☃😀", "x" * 1000], ids=lambda n: n[:9]
)
def test_a_name_may_be_any_text(name: str) -> None:
    assert parse_create(changed(CREATED, "archive", "name", to=name)).name == name


@pytest.mark.parametrize(
    "duration",
    [float("nan"), float("inf"), float("-inf"), 10**400, -(10**400), "60", "nan", True, None, [], 1e300, -1e300, 10**9],
    ids=repr,
)
def test_a_duration_that_is_no_number_of_seconds_is_unreadable(duration: object) -> None:
    with pytest.raises(Unreadable):
        parse_create(changed(CREATED, "archive", "duration", to=duration))


@pytest.mark.parametrize("duration", [0, 0.0, 1, 0.001, 10**7])
def test_a_duration_is_a_number_of_seconds(duration: float) -> None:
    assert parse_create(changed(CREATED, "archive", "duration", to=duration)).duration == duration


@pytest.mark.parametrize("duration", [-0.001, -7200, -(10**8)])
def test_a_clock_that_was_set_back_makes_a_backup_short_but_not_unreadable(duration: float) -> None:
    assert parse_create(changed(CREATED, "archive", "duration", to=duration)).duration == 0


@pytest.mark.parametrize(
    "time",
    ["", "yesterday", "2026-13-01T00:00:00", "2026-02-30T00:00:00", "99999-01-01T00:00:00", "2026-01-02T25:00:00", 0,
     1767323045, None, True, [], "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-02T03:04:05+99:00"],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("key", ["start", "end"])
def test_a_time_that_is_none_is_unreadable(key: str, time: object) -> None:
    with pytest.raises(Unreadable):
        parse_create(changed(CREATED, "archive", key, to=time))


@pytest.mark.parametrize(
    ("written", "hour"),
    [("2026-01-02T12:00:00", 12), ("2026-01-02T12:00:00.000000", 12), ("2026-01-02T12:00:00Z", 12),
     ("2026-01-02T12:00:00.000000+00:00", 12), ("2026-01-02T12:00:00+02:00", 10), ("2026-01-02 12:00:00", 12)],
)  # fmt: skip
def test_times_become_utc(written: str, hour: int) -> None:
    start = parse_create(changed(CREATED, "archive", "start", to=written)).start
    assert (start, start.tzinfo) == (datetime(2026, 1, 2, hour, tzinfo=UTC), UTC)


# --- Around the JSON --------------------------------------------------------------------------

NOISE = [
    b"Last login: today\n", b"no end", b"\n\n", b"{not json}\n", b"{\n", b"{}\n", b'{"archive"\n', b'{"a": 1}\n',
    b"\xff\xfe\n", b'{"archives_": 1, "archive_": 2}\n', b"\x1b[0m\n", b"[1, 2]\n", b'{"a": ' * 5000 + b"\n",
    "☃\n".encode(), b"{\r\n",
]  # fmt: skip


@pytest.mark.parametrize("noise", NOISE, ids=lambda noise: repr(noise[:12]))
@pytest.mark.parametrize(("parse", "data"), [(parse_create, CREATED), (parse_archives, LISTED)])
def test_noise_before_and_after_the_json_is_ignored(
    parse: Callable[[bytes], object], data: dict[str, Any], noise: bytes
) -> None:
    written = json.dumps(data, indent=4).encode()
    assert parse(noise + written + b"\n" + noise) == parse(written)


@pytest.mark.parametrize("parse", [parse_create, parse_archives, parse_key])
@pytest.mark.parametrize(
    "stdout", [b"", b"\n", b"{", b"{}", b"null", b"[]", b"\0" * 100, b"\xff" * 100, b"{" * 10_000, b'{"a":\n' * 10_000],
    ids=lambda stdout: repr(stdout[:8]),
)  # fmt: skip
def test_what_is_no_answer_is_unreadable(parse: Callable[[bytes], object], stdout: bytes) -> None:
    with pytest.raises(Unreadable):
        parse(stdout)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_truncated_answer_is_unreadable_wherever_it_ends(version: str) -> None:
    written = recorded(version, "create").stdout.rstrip()
    for end in range(len(written)):
        with pytest.raises(Unreadable):
            parse_create(written[:end])


@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_else(stdout: bytes) -> None:
    for parse in (parse_create, parse_archives, parse_key):
        with pytest.raises(Unreadable):
            parse(stdout)


# --- list -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_list_has_the_archive_that_was_made(version: str) -> None:
    info, made = parse_archives(recorded(version, "list").stdout), parse_create(recorded(version, "create").stdout)
    [archive] = info.archives
    assert (archive.archive_id, archive.name, archive.start) == (made.archive_id, made.name, made.start)
    assert (info.repository_id, info.encryption) == (made.repository_id, "repokey-blake2")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_list_of_an_empty_repository_is_empty(version: str) -> None:
    assert parse_archives(recorded(version, "list_empty").stdout).archives == ()


@pytest.mark.parametrize(
    "path",
    [("archives", 0, "id"), ("archives", 0, "name"), ("archives", 0, "start"), ("encryption",), ("encryption", "mode"),
     ("repository",), ("repository", "id")],
    ids=str,
)  # fmt: skip
def test_a_list_without_one_of_its_fields_is_unreadable(path: tuple[str | int, ...]) -> None:
    with pytest.raises(Unreadable, match="incomplete"):
        parse_archives(without(LISTED, *path))


@pytest.mark.parametrize("forged", [None, 7, True, "text", {"a": 1}, [None], [7], ["text"], [[]], [{}]], ids=repr)
def test_a_forged_list_of_archives_is_unreadable(forged: object) -> None:
    with pytest.raises(Unreadable):
        parse_archives(changed(LISTED, "archives", to=forged))


@pytest.mark.parametrize("forged", IDS, ids=repr)
def test_an_archive_with_a_forged_id_is_unreadable(forged: str) -> None:
    with pytest.raises(Unreadable):
        parse_archives(changed(LISTED, "archives", 0, "id", to=forged))


def test_twenty_thousand_archives_are_read() -> None:
    items = [
        {"id": f"{number:064x}", "name": f"a-{number}", "start": "2026-01-02T03:04:05"} for number in range(20_000)
    ]
    assert len(parse_archives(changed(LISTED, "archives", to=items)).archives) == 20_000


# --- key export -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_key_is_kept_byte_for_byte(version: str) -> None:
    stdout = recorded(version, "key_export").stdout
    key = parse_key(stdout)
    assert key.encode() == stdout.rstrip() + b"\n"
    assert key.startswith(f"BORG_KEY {parse_archives(recorded(version, 'list').stdout).repository_id}\n")


@pytest.mark.parametrize(
    "noise", [b"Welcome!\n", b"\n", b"\xff\n", b"BORG_KEY\n", b"BORG_KEY 17\n", b"BORG_KEY of yours: "]
)
@pytest.mark.parametrize("version", VERSIONS)
def test_noise_before_a_key_is_no_part_of_it(version: str, noise: bytes) -> None:
    stdout = recorded(version, "key_export").stdout
    assert parse_key(noise + stdout) == parse_key(stdout)


@pytest.mark.parametrize(
    "stdout",
    [f"BORG_KEY {ID}", f"BORG_KEY {ID}\n", f"BORG_KEY {ID}\n\n", f"BORG_KEY {ID[:-1]}\nhqlh", f"borg_key {ID}\nhqlh",
     f"BORG_KEY {ID.upper()}\nhqlh", f"BORG_KEY {ID} hqlh", "hqlh", f"BORG_KEY {ID}\n!"],
    ids=lambda stdout: repr(stdout[-12:]),
)  # fmt: skip
def test_what_is_no_key_is_unreadable(stdout: str) -> None:
    with pytest.raises(Unreadable, match="printed no key"):
        parse_key(stdout.encode())
