"""Which versions of borg we work with, on servers and on our own side."""

import re

OLDEST = (1, 2, 0)
SAFE = (1, 2, 6)  # before it, CVE-2023-36811: a hidden archive may be forged in a repository
NEXT_MAJOR = (2, 0, 0)


def parse(text: str) -> tuple[int, int, int] | None:
    """The numbers of "borg 1.4.0b2" or "1.2.4"; None when there are none."""
    found = re.search(r"(?<!\d)(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?!\d)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def describe_support(text: str) -> tuple[str, str]:
    """("ok" | "warning" | "failed", a sentence) about a version of borg."""
    version = parse(text)
    if version is None:
        return "failed", f"“{text[:40]}” is no version of borg that we know."
    if version < OLDEST:
        return "failed", f"borg {text} is too old: 1.2 is the oldest that works."
    if version >= NEXT_MAJOR:
        return "failed", f"borg {text} is not supported yet: its repositories differ from those of 1.x."
    if version < SAFE:
        return "warning", f"borg {text} works, but has a known weakness (CVE-2023-36811): 1.2.6 mends it."
    return "ok", f"borg {text}."
