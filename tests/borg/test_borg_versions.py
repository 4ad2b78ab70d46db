"""servers.borg_versions: which borgs we work with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.borg_versions import describe_support, parse
from tests.borg.recorded import VERSIONS, recorded


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1.2.4", (1, 2, 4)), ("borg 1.4.5", (1, 4, 5)), ("borg 1.4.0b2", (1, 4, 0)), ("borg 2.0.0b14", (2, 0, 0)),
        ("borg-linux-glibc236 1.4.3\n", (1, 4, 3)), ("1.2.10", (1, 2, 10)), ("1.2.9.dev3+g1234", (1, 2, 9)),
        ("", None), ("borg", None), ("1.2", None), ("1.2.x", None), ("v1", None), ("..", None), ("1..2.3", None),
        ("9" * 5_000 + ".0.0", None), ("1.2." + "9" * 5_000, None),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_version_is_its_three_numbers(text: str, numbers: tuple[int, int, int] | None) -> None:
    assert parse(text) == numbers


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_version_is_read(version: str) -> None:
    printed = recorded(version, "version").stdout.decode()
    assert parse(printed) == tuple(int(number) for number in version.split("."))


@pytest.mark.parametrize(
    ("text", "verdict", "word"),
    [
        ("0.29.0", "failed", "too old"), ("1.0.13", "failed", "too old"), ("1.1.18", "failed", "too old"),
        ("1.2.0", "warning", "CVE-2023-36811"), ("1.2.4", "warning", "CVE-2023-36811"),
        ("1.2.5", "warning", "1.2.6"), ("1.2.6", "ok", "borg 1.2.6"), ("1.2.9", "ok", "borg 1.2.9"),
        ("1.2.10", "ok", "borg 1.2.10"), ("1.4.0", "ok", "1.4.0"), ("1.4.5", "ok", "1.4.5"), ("1.10.0", "ok", "1.10.0"),
        ("2.0.0", "failed", "not supported yet"), ("2.0.0b14", "failed", "not supported yet"),
        ("10.0.0", "failed", "not supported yet"), ("", "failed", "no version"), ("banana", "failed", "“banana”"),
        ("x" * 99, "failed", f"“{'x' * 40}”"), ("9" * 5_000 + ".0.0", "failed", "no version"),
    ],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_each_version_has_its_verdict(text: str, verdict: str, word: str) -> None:
    said, sentence = describe_support(text)
    assert (said, word in sentence) == (verdict, True)
    assert sentence.endswith(".")


@given(st.text())
def test_any_text_has_a_verdict(text: str) -> None:
    assert describe_support(text)[0] in {"ok", "warning", "failed"}


@given(st.integers(0, 3), st.integers(0, 20), st.integers(0, 20))
def test_a_newer_1_x_is_never_worse(major: int, minor: int, patch: int) -> None:
    rank = ["failed", "warning", "ok"]
    here, later = describe_support(f"{major}.{minor}.{patch}")[0], describe_support(f"{major}.{minor}.{patch + 1}")[0]
    assert rank.index(later) >= rank.index(here)
