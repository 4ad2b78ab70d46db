"""README.md names a test for every fault; each of them is there."""

import re
from pathlib import Path

HERE = Path(__file__).parent
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows() -> list[tuple[str, str]]:
    table = [line.split("|")[1:3] for line in (HERE / "README.md").read_text().splitlines() if line.startswith("| ")]
    return [(fault.strip(), tests.strip()) for fault, tests in table[1:]]


def test_every_fault_has_a_test_or_a_reason() -> None:
    assert len(rows()) > 30
    assert [fault for fault, tests in rows() if not (NAMED.search(tests) or tests.startswith("later"))] == []


def test_every_test_that_is_named_exists() -> None:
    named = {found for _, tests in rows() for found in NAMED.findall(tests)}
    assert {
        f"{file}::{test}"
        for file, test in named
        if not re.search(rf"def {test}\(", (HERE.parent / file).read_text())
    } == set()  # fmt: skip
