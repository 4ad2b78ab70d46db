"""backups.borg.events: a line of borg's standard error, as a value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.borg.events import LARGEST, Event, Message, Percent, Progress, Question, Raw, Step, parse_line, unescaped
from tests.borg.recorded import VERSIONS, cases, recorded

ANY_EVENT = (Progress, Percent, Step, Message, Question, Raw, type(None))
PROGRESS = {
    "type": "archive_progress", "original_size": 10, "compressed_size": 8, "deduplicated_size": 6, "nfiles": 4,
    "path": "etc/hosts", "time": 1.5,
}  # fmt: skip
PERCENT = {"type": "progress_percent", "msgid": "extract", "current": 3, "total": 9, "info": ["etc/hosts"]}


def line(**data: Any) -> str:
    return json.dumps(data)


# --- Every kind -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "event"),
    [
        (line(**PROGRESS), Progress(10, 8, 6, 4, "etc/hosts")),
        (line(**PROGRESS, finished=False), Progress(10, 8, 6, 4, "etc/hosts")),
        (line(type="archive_progress", finished=True, time=1), None),
        (line(type="archive_progress"), Progress(0, 0, 0, 0, "")),
        (line(**PERCENT), Percent("extract", 3, 9, "etc/hosts")),
        (line(**PERCENT, finished=False), Percent("extract", 3, 9, "etc/hosts")),
        (line(type="progress_percent", msgid="extract", finished=True), None),
        (line(type="progress_percent", msgid="check.rebuild_manifest", current=1, total=2, info=None),
         Percent("check.rebuild_manifest", 1, 2, "")),
        (line(type="progress_percent", msgid="x", current=1, total=2, info=[]), Percent("x", 1, 2, "")),
        (line(type="progress_percent", msgid="x", current=1, total=2, info=["1", "a/b"]), Percent("x", 1, 2, "a/b")),
        (line(type="progress_message", msgid="cache.commit", message="Saving files cache"),
         Step("cache.commit", "Saving files cache")),
        (line(type="progress_message", msgid="cache.commit", finished=True), None),
        (line(type="file_status", status="A", path="/etc/hosts"), None),
        (line(type="question_prompt", msgid="X", message="Continue? [yN] "), Question("Continue? [yN] ")),
        (line(type="question_prompt_retry", msgid="X", message="Again? "), Question("Again? ")),
        (line(type="question_prompt"), Question("")),
    ],
)  # fmt: skip
def test_each_kind_of_line_becomes_its_value(text: str, event: Event) -> None:
    assert parse_line(text) == event


@pytest.mark.parametrize(
    "kind", ["env_answer", "accepted_false", "accepted_true", "accepted_default", "invalid_answer"]
)
def test_an_answer_is_no_question(kind: str) -> None:
    assert parse_line(line(type=f"question_{kind}", message="Aborting.")) == Message(20, "Aborting.")


@pytest.mark.parametrize(
    ("levelname", "level"),
    [("DEBUG", 10), ("INFO", 20), ("WARNING", 30), ("ERROR", 40), ("CRITICAL", 40), ("SHOUT", 20), ("", 20), (None, 20),
     (40, 20), ([], 20), ({"a": 1}, 20)],
)  # fmt: skip
def test_a_message_has_pythons_level(levelname: object, level: int) -> None:
    assert parse_line(line(type="log_message", levelname=levelname, message="m")) == Message(level, "m", "")


def test_a_message_has_its_id_and_loses_the_space_around_it() -> None:
    text = line(type="log_message", levelname="ERROR", name="borg.archiver", message="\n no \n", msgid="LockTimeout")
    assert parse_line(text) == Message(40, "no", "LockTimeout")


@pytest.mark.parametrize("name", ["borg.output", "borg.output.list", "borg.output.stats"])
def test_what_borg_prints_for_people_is_left_out(name: str) -> None:
    assert parse_line(line(type="log_message", levelname="INFO", name=name, message="m")) is None


# --- What is not borg's ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Welcome to web-1!", "borg: error: unrecognized arguments: -x", "{", "{}", '{"', '{"type"', "{'type': 1}",
        '{"type": "log_message"', '{"type": "log_message"} and more', '{"type": NaN2}', "[1, 2]", "null", "1", '""',
        '{"message": "no type"}', '{"type": "unheard_of", "message": "m"}', '{"type": 7}', '{"type": null}',
        '{"type": ["log_message"]}', '{"type": {"type": "log_message"}}', '{"type": ""}', '[{"type": "log_message"}]',
        "\x1b[31mred\x1b[0m", "\ufeff", "☃", "\udcff", '{ "type": "log_message"}',
    ],
)  # fmt: skip
def test_what_is_not_borgs_json_stays_as_it_is(text: str) -> None:
    assert parse_line(text) == Raw(text)


@pytest.mark.parametrize("text", ["", " ", "\t", "\r", "\x0b\x0c", "\x1c\x1d"])
def test_an_empty_line_says_nothing(text: str) -> None:
    assert parse_line(text) is None


@pytest.mark.parametrize("prompt", ["Enter passphrase for key /x: ", "Password:", "[sudo] ", "{ok} ", "> {", "\0"])
def test_json_behind_a_prompt_is_found(prompt: str) -> None:
    said = line(type="log_message", levelname="ERROR", message="m", msgid="PassphraseWrong")
    assert parse_line(prompt + said) == Message(40, "m", "PassphraseWrong")


# --- Forgeries --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "forged",
    [
        -1,
        -(2**63),
        2**63,
        10**400,
        1.5,
        -0.0,
        float("inf"),
        float("nan"),
        "17",
        "",
        True,
        False,
        None,
        [],
        [1],
        {},
        {"a": 1},
    ],
)
@pytest.mark.parametrize("key", ["original_size", "compressed_size", "deduplicated_size", "nfiles"])
def test_a_forged_number_of_a_progress_counts_as_zero(key: str, forged: object) -> None:
    seen = parse_line(line(**(PROGRESS | {key: forged})))
    names = {"original_size": "original", "compressed_size": "compressed", "deduplicated_size": "deduplicated"}
    assert isinstance(seen, Progress)
    value = getattr(seen, names.get(key, "files"))
    assert (value, type(value)) == (0, int)


@pytest.mark.parametrize("forged", [-1, 2**63, 10**400, 1.5, float("nan"), "17", True, None, [1], {"a": 1}])
@pytest.mark.parametrize("key", ["current", "total"])
def test_a_forged_number_of_a_percentage_counts_as_zero(key: str, forged: object) -> None:
    seen = parse_line(line(**(PERCENT | {key: forged})))
    assert isinstance(seen, Percent)
    value = getattr(seen, key)
    assert (value, type(value)) == (0, int)


def test_the_largest_number_that_a_database_holds_is_believed() -> None:
    assert parse_line(line(**(PROGRESS | {"nfiles": LARGEST}))) == Progress(10, 8, 6, LARGEST, "etc/hosts")


@pytest.mark.parametrize("forged", [7, None, True, ["a"], {"a": "b"}, 1.5])
@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("path", PROGRESS), ("msgid", PERCENT), ("info", PERCENT), ("message", {"type": "log_message"}),
        ("name", {"type": "log_message", "message": "m"}), ("msgid", {"type": "log_message", "message": "m"}),
        ("message", {"type": "question_prompt"}), ("message", {"type": "progress_message"}),
    ],
)  # fmt: skip
def test_a_forged_text_is_no_text(key: str, data: dict[str, Any], forged: object) -> None:
    seen = parse_line(line(**(data | {key: forged})))
    assert isinstance(seen, ANY_EVENT)
    assert all(isinstance(value, str | int) for value in (vars(seen) if seen else {}).values())


@pytest.mark.parametrize("info", [[7], ["a", None], "text", {"0": "a"}, [["a"]], 5])
def test_a_forged_path_of_a_percentage_is_no_path(info: object) -> None:
    assert parse_line(line(**(PERCENT | {"info": info}))) == Percent("extract", 3, 9, "")


@pytest.mark.parametrize("finished", [1, "yes", [0], {"a": 1}])
def test_anything_true_means_finished(finished: object) -> None:
    assert parse_line(line(**PROGRESS, finished=finished)) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 200_000, '{"type":' + "[" * 100_000 + "]" * 100_000 + "}", '{"type": "x", "a": ' + "9" * 5_000 + "}",
        "x" * 1_000_000, '{"' * 500_000, '{"type": "' + "y" * 1_000_000 + '"}', '{"a": "' + "\\" * 999_999,
    ],
    ids=["deep", "deep lists", "long number", "long noise", "many beginnings", "long type", "backslashes"],
)  # fmt: skip
def test_a_monstrous_line_is_read_without_an_error(text: str) -> None:
    assert isinstance(parse_line(text), ANY_EVENT)


def test_a_message_of_a_megabyte_is_a_message() -> None:
    said = parse_line(line(type="log_message", levelname="WARNING", message="x" * 1_000_000))
    assert said == Message(30, "x" * 1_000_000)


def test_a_name_that_is_not_utf8_survives() -> None:
    assert parse_line(line(**(PROGRESS | {"path": "a\udcff"}))) == Progress(10, 8, 6, 4, "a\udcff")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KINDS = ["archive_progress", "progress_percent", "progress_message", "log_message", "file_status", "question_prompt",
         "question_env_answer", "other"]  # fmt: skip
KEYS = ["original_size", "compressed_size", "nfiles", "path", "finished", "msgid", "current", "total", "info",
        "message", "levelname", "name"]  # fmt: skip


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert isinstance(parse_line(text), ANY_EVENT)


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(KEYS), JSON_VALUES))
def test_no_json_raises_and_all_fields_have_their_types(kind: str, data: dict[str, Any]) -> None:
    seen = parse_line(line(**(data | {"type": kind})))
    assert isinstance(seen, ANY_EVENT)
    if isinstance(seen, Progress):
        numbers = (seen.original, seen.compressed, seen.deduplicated, seen.files)
        assert all(type(number) is int and 0 <= number <= LARGEST for number in numbers)
    if isinstance(seen, Message):
        assert seen.level in {10, 20, 30, 40}
        assert isinstance(seen.text, str)


# --- Recorded ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_only_usage_errors_are_no_json(version: str) -> None:
    raw = {case for case in cases(version) if any(isinstance(event, Raw) for event in recorded(version, case).events)}
    assert raw == {"usage"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_backup_shows_its_steps_and_its_progress(version: str) -> None:
    events = recorded(version, "create").events
    assert Step("cache.commit", "Saving files cache") in events
    assert any(isinstance(event, Progress) for event in events)
    assert not recorded(version, "create").messages


@pytest.mark.parametrize("version", VERSIONS)
def test_a_restore_shows_how_far_it_is(version: str) -> None:
    seen = [event for event in recorded(version, "extract").events if isinstance(event, Percent)]
    assert {event.operation for event in seen} == {"extract"}
    assert [event.current for event in seen] == sorted(event.current for event in seen)
    assert "tmp/borg-sample/strange/line\nbreak" in {event.path for event in seen}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_question_is_shown_once_and_its_answer_is_a_message(version: str) -> None:
    run = recorded(version, "moved")
    questions = [event for event in run.events if isinstance(event, Question)]
    assert len(questions) == 1
    assert "was previously located at" in questions[0].text
    assert [message.level for message in run.messages] == [20, 20, 40]


# --- Lines of a borg that escapes (commands.list_files) --------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_the_error_of_an_escaping_borg_is_found(version: str) -> None:
    [said] = recorded(version, "no_archive_to_list").messages
    assert said == Message(40, "Archive second does not exist", "Archive.DoesNotExist")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_escaping_borg_says_the_same_as_another(version: str) -> None:
    assert recorded(version, "moved_to_list").events == recorded(version, "moved").events


@pytest.mark.parametrize("text", ["", "noise", "C:\\new\\n", '{"type": "log_message"}', "}", "\\n", "}\\n ", "☃\\\\"])
def test_what_nobody_escaped_stays_as_it_is(text: str) -> None:
    assert unescaped(text) == [text]


@given(st.text())
def test_unescaping_never_raises(text: str) -> None:
    assert all(isinstance(piece, str) for piece in [*unescaped(text), *unescaped(text + "}\\n")])


@given(st.lists(st.dictionaries(st.text(), st.text(), min_size=1), min_size=1))
def test_unescaping_undoes_what_borg_does(data: list[dict[str, str]]) -> None:
    written = "".join(json.dumps(item) + "\n" for item in data)
    escaped = written.encode("unicode_escape").decode()
    assert [json.loads(piece) for piece in unescaped(escaped)] == data
