"""backups.sources: files and folders as the source of a backup, from a page and from the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.sources import files
from backups.sources.base import LINE_BYTES, MOST_LINES, LinesField, Prepared, SourceKind, join
from backups.sources.files import Files, FilesForm
from servers.ssh.local import Local


def form(**data: Any) -> FilesForm:
    return FilesForm({"paths": ["/etc"], **data})


def cleaned(**data: Any) -> dict[str, Any]:
    seen = form(**data)
    assert seen.is_valid(), seen.errors
    return seen.cleaned_data


def error_of(field: str, **data: Any) -> str:
    seen = form(**data)
    assert not seen.is_valid()
    assert set(seen.errors) == {field}
    [message] = seen.errors[field]
    return str(message)


# --- What is accepted -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("/etc", ["/etc"]), ("/etc\r\n/home\r\n", ["/etc", "/home"]), ("/etc\n\n  \n/home", ["/etc", "/home"]),
        (["/etc", "/home"], ["/etc", "/home"]), (["/etc", "", "  ", "/home"], ["/etc", "/home"]), ("/", ["/"]),
        ("/with space /", ["/with space /"]), ("/x\t", ["/x\t"]), ("/trailing ", ["/trailing "]), ("/...", ["/..."]),
        ("/a/.hidden", ["/a/.hidden"]), ("/a..b/..c", ["/a..b/..c"]), ("/-rf", ["/-rf"]), ("/$(id)`'", ["/$(id)`'"]),
        ("/é☃😀", ["/é☃😀"]), ("//etc", ["//etc"]), ("/" + "x" * (LINE_BYTES - 1), ["/" + "x" * (LINE_BYTES - 1)]),
        ("/x\n" * MOST_LINES, ["/x"] * MOST_LINES), (["/a\nb"], ["/a\nb"]),
        # Characters at which Python's splitlines() cuts, but a browser does not.
        ("/a\x0bb", ["/a\x0bb"]), ("/a\x0c/b", ["/a\x0c/b"]), ("/a\x1c/b", ["/a\x1c/b"]), ("/a\x85/b", ["/a\x85/b"]),
        ("/a\u2028/b\u2029/c", ["/a\u2028/b\u2029/c"]),
    ],
    ids=lambda value: ascii(value)[:30],
)  # fmt: skip
def test_paths_from_the_root_are_accepted(value: object, paths: list[str]) -> None:
    assert cleaned(paths=value)["paths"] == paths


@pytest.mark.parametrize(
    "pattern",
    ["*.tmp", "/var/lib/docker", "sh:/home/*/.cache", "fm:*/x", "re:^/proc/", "pp:/srv", "pf:/srv/x", "C:/x", "abc:x",
     "::", "-rf", "a:b:c", "12:x", "r3:x", "!x", "- x", "~", "{now}"],
)  # fmt: skip
def test_borgs_patterns_are_accepted(pattern: str) -> None:
    assert cleaned(excludes=[pattern])["excludes"] == [pattern]


@pytest.mark.parametrize("value", [None, "", [], "\n", [""], 0, False, {}])
def test_nothing_to_leave_out_is_nothing(value: object) -> None:
    assert cleaned(excludes=value)["excludes"] == []


@pytest.mark.parametrize(
    ("value", "checked"),
    [(True, True), ("on", True), ("true", True), ("True", True), ("1", True), (1, True), (False, False),
     ("false", False), ("False", False), (0, False), (None, False), ("", False)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["one_file_system", "exclude_caches"])
def test_a_box_is_checked_or_not(name: str, value: object, checked: bool) -> None:
    assert cleaned(**{name: value})[name] is checked


def test_what_is_not_said_is_no() -> None:
    assert cleaned() == {"paths": ["/etc"], "excludes": [], "one_file_system": False, "exclude_caches": False}


# --- What is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", [], " ", "\n\r\n", ["", "  "], 0, False, {}], ids=repr)
def test_no_path_is_refused_and_never_means_everything(value: object) -> None:
    assert error_of("paths", paths=value) == "Enter at least one path. Nothing is never taken to mean everything."


@pytest.mark.parametrize(
    "value", [7, True, {"a": 1}, ("/etc",), {"/etc"}, ["/etc", 7], [["/etc"]], [None], b"/etc"], ids=repr
)
@pytest.mark.parametrize("name", ["paths", "excludes"])
def test_what_is_no_list_of_texts_is_refused(name: str, value: object) -> None:
    assert error_of(name, **{name: value}) == "This must be a list of texts."


@pytest.mark.parametrize(
    "path",
    ["etc", " /etc", "~", "~/x", "./etc", "../etc", "$HOME", "C:\\x", "-rf", "ssh://x/y", "*", "pp:/etc", "\ufeff/etc",
     "x" * 100],
)  # fmt: skip
def test_a_path_that_does_not_begin_at_the_root_is_refused(path: str) -> None:
    assert error_of("paths", paths=["/etc", path]) == f"“{path[:60]}” does not begin with /."


@pytest.mark.parametrize("path", ["/..", "/.", "/a/../b", "/a/./b", "/a/..", "/a/.", "//../x", "/" + "a/" * 60 + ".."])
def test_a_path_with_dots_is_refused(path: str) -> None:
    assert error_of("paths", paths=path) == f"“{path[:60]}” has a “.” or “..” in it."


@pytest.mark.parametrize("line", ["/a\0b", "\0", "/\0"])
@pytest.mark.parametrize("name", ["paths", "excludes"])
def test_a_nul_is_refused(name: str, line: str) -> None:
    assert "has a character that cannot be part of a path" in error_of(name, **{name: [line]})


@pytest.mark.parametrize("half", [0xD800, 0xDCFF, 0xDFFF], ids=hex)
@pytest.mark.parametrize("name", ["paths", "excludes"])
def test_half_a_character_is_refused_and_shown_escaped(name: str, half: int) -> None:
    said = error_of(name, **{name: [f"/{chr(half)}"]})
    assert said == f"“/\\u{half:x}” has a character that cannot be part of a path."


@pytest.mark.parametrize("line", ["/" + "x" * LINE_BYTES, "/" + "é" * (LINE_BYTES // 2), "/" + "😀" * 2_000])
@pytest.mark.parametrize("name", ["paths", "excludes"])
def test_a_line_longer_than_a_path_can_be_is_refused(name: str, line: str) -> None:
    assert error_of(name, **{name: [line]}) == f"“{line[:40]}...” is longer than 4096 bytes."


@pytest.mark.parametrize("name", ["paths", "excludes"])
@pytest.mark.parametrize("count", [MOST_LINES + 1, 50_000])
def test_too_many_lines_are_refused(name: str, count: int) -> None:
    assert error_of(name, **{name: "\n".join(["/x"] * count)}) == "These are more than 1000 lines."


@pytest.mark.parametrize("style", ["xx", "hg", "SH", "Re", "rs", "éé"])
def test_a_style_that_borg_does_not_know_is_refused(style: str) -> None:
    said = error_of("excludes", excludes=[f"{style}:*.tmp"])
    assert said == f"“{style}:” is no style of pattern that borg knows (fm:, sh:, re:, pp:, pf:)."


@pytest.mark.parametrize("style", files.STYLES)
def test_a_style_without_a_pattern_is_refused(style: str) -> None:
    assert error_of("excludes", excludes=[f"{style}:"]) == f"The pattern “{style}:” is empty."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["paths", "excludes", "one_file_system", "exclude_caches", "else"]), JSON))
def test_no_parameters_from_the_api_raise(data: dict[str, Any]) -> None:
    seen = FilesForm(data)
    if seen.is_valid():
        assert all(path.startswith("/") for path in seen.cleaned_data["paths"])
        assert seen.cleaned_data["paths"]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])), max_size=5))
def test_lines_survive_the_page(lines: list[str]) -> None:
    field = LinesField(required=False)
    shown = field.prepare_value(lines)
    assert field.clean(shown.replace("\n", "\r\n")) == [line for line in lines if line.strip()]


# --- The source of a backup -------------------------------------------------------------------


def prepared(**parameters: Any) -> Prepared:
    with Files().prepare(Local(), {"paths": ["/etc"], **parameters}, lambda: None) as ready:
        return ready


def test_files_hand_to_borg_what_the_form_took() -> None:
    parameters = cleaned(excludes="*.tmp", one_file_system=True, exclude_caches=True)
    assert prepared(**parameters) == Prepared(("/etc",), ("*.tmp",), one_file_system=True, exclude_caches=True)


def test_parameters_of_an_older_version_are_enough() -> None:
    assert prepared() == Prepared(("/etc",))


def test_files_are_described_by_their_paths() -> None:
    assert Files().describe({"paths": ["/etc", "/home"]}) == "/etc, /home"


def test_a_kind_registers_itself() -> None:
    assert isinstance(SourceKind.registry["files"], Files)


def test_sources_are_joined_in_order_and_without_doubles() -> None:
    one = Prepared(("/a", "/b"), ("*.tmp",), one_file_system=True)
    other = Prepared(("/b", "/c"), ("*.log", "*.tmp"), exclude_caches=True)
    assert join([one, other]) == Prepared(
        ("/a", "/b", "/c"), ("*.tmp", "*.log"), one_file_system=True, exclude_caches=True
    )


def test_no_sources_are_no_paths() -> None:
    assert join([]) == Prepared(())


def test_a_joined_source_may_come_from_an_iterator() -> None:
    @contextmanager
    def opened() -> Iterator[Prepared]:
        yield Prepared(("/a",))

    with opened() as one:
        assert join(iter([one])) == one
