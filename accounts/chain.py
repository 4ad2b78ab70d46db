"""The chain of the audit trail: nobody alters, removes or moves an entry without `manage.py verify_audit` noticing.

An entry's digest is an HMAC of what it says and of its predecessor's digest. The key is derived from ENCRYPTION_KEYS,
because whoever can write to the database could compute a plain digest anew. SECURITY.md says what this keeps from whom.
"""

import hmac
import json
from collections.abc import Iterator
from datetime import UTC
from hashlib import sha256
from typing import Any

from django.db import transaction

from accounts import encryption
from accounts.models import AuditEntry, AuditHead

BROKEN = "audit.broken"  # what is written first where the head does not fit
ROWS_AT_ONCE = 1_000


class Broken(Exception):
    """The trail is not as it was written; the sentence says where first, `whole` how many entries before that are."""

    def __init__(self, sentence: str, *, whole: int) -> None:
        super().__init__(sentence)
        self.whole = whole


def digest_of(entry: Any, before: str, key: bytes) -> str:
    """`before` is its predecessor's. The user counts as the number that was written, whether it is still anybody's."""
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    return _mac(
        key, entry.number, before, at, entry.user_id, entry.username, entry.address, entry.action, entry.target,
        entry.detail,
    )  # fmt: skip


def seal_of(head: AuditHead, key: bytes) -> str:
    return _mac(key, "head", head.number, head.digest)


def _mac(key: bytes, *said: Any) -> str:
    return hmac.new(key, json.dumps(said, sort_keys=True, separators=(",", ":")).encode(), sha256).hexdigest()


# --- Writing ------------------------------------------------------------------------------------


def append(*added: AuditEntry) -> None:
    """Add them at the end, or none of them.

    The head is locked until the caller's transaction ends: numbers have no gaps whatever is rolled back. So this comes
    last in a transaction. Whoever waited for another row afterwards could wait for somebody who waits for the head.
    """
    key = encryption.chaining_keys()[0]
    with transaction.atomic(savepoint=False):
        head = _locked_head()
        rows = [*_resumed(head), *added]
        for row in rows:
            row.number = head.number = head.number + 1
            row.digest = head.digest = digest_of(row, head.digest, key)
        AuditEntry.objects.bulk_create(rows)
        head.seal = seal_of(head, key)
        head.save()


def _locked_head() -> AuditHead:
    heads = AuditHead.objects.select_for_update().filter(pk=1)
    if (head := heads.first()) is None:
        AuditHead.objects.get_or_create(pk=1)
        head = heads.get()
    return head


def _resumed(head: AuditHead) -> list[AuditEntry]:
    """If somebody has changed the head, or deleted it: go on behind what is there, and say so for ever."""
    if is_sealed(head):
        return []
    said, last = head.number, AuditEntry.objects.order_by("-number").first()
    head.number, head.digest = (last.number, last.digest) if last else (0, "")
    is_new = last is None and said == 0  # an empty database
    return [] if is_new else [AuditEntry(action=BROKEN, detail={"head": said, "last": head.number})]


def is_sealed(head: AuditHead) -> bool:
    return any(hmac.compare_digest(head.seal, seal_of(head, key)) for key in encryption.chaining_keys())


# --- Reading ------------------------------------------------------------------------------------


def walked(**which: Any) -> Iterator[AuditEntry]:
    """From the first on; never more than ROWS_AT_ONCE of them are in memory."""
    number = 0
    while batch := list(AuditEntry.objects.filter(number__gt=number, **which).order_by("number")[:ROWS_AT_ONCE]):
        yield from batch
        number = batch[-1].number


def verify(noted: tuple[int, str] | None = None) -> AuditHead:
    """The head of a trail that is whole. `noted`: a number, and the digest that it once had. Raises Broken."""
    head, keys = AuditHead.objects.first(), encryption.chaining_keys()
    last = AuditHead(number=0, digest="")
    for entry in walked():
        if sentence := _fault(entry, last, keys, noted):
            raise Broken(sentence, whole=last.number)
        last = AuditHead(number=entry.number, digest=entry.digest)
    if sentence := _fault_at_the_end(last, head, noted):
        raise Broken(sentence, whole=last.number)
    return last


def _fault(entry: AuditEntry, last: AuditHead, keys: list[bytes], noted: tuple[int, str] | None) -> str:
    """What is wrong with the entry that comes after `last`; the key that fits it comes to the front of `keys`."""
    if entry.number != last.number + 1:
        return _missing(last.number + 1, entry.number - 1)
    fits = (key for key in keys if hmac.compare_digest(entry.digest, digest_of(entry, last.digest, key)))
    if (key := next(fits, None)) is None:
        return f"Entry {entry.number} is not as it was written."
    keys.sort(key=lambda other: other != key)
    if entry.action == BROKEN:
        return (
            f"Before entry {entry.number} somebody had changed the head: what stood behind entry {last.number} may be "
            "missing."
        )
    if noted and noted[0] == entry.number and noted[1] != entry.digest:
        return f"Entry {entry.number} has another digest than the one that was noted."
    return ""


def _fault_at_the_end(last: AuditHead, head: AuditHead | None, noted: tuple[int, str] | None) -> str:
    """What is wrong behind the last entry. `head`: as it was before they were read; others may have added since."""
    now = AuditHead.objects.first()
    if head is None or now is None:
        return "The head of the trail is missing: nobody knows whether it ends where it should."
    if (most := max(head.number, noted[0] if noted else 0)) > last.number:
        return _missing(last.number + 1, most)
    if not is_sealed(now) or now.number < last.number or (now.number == last.number and now.digest != last.digest):
        return "The head of the trail is not as it was written: nobody knows whether it ends where it should."
    return ""


def _missing(first: int, last: int) -> str:
    return f"Entry {first} is missing." if first == last else f"Entries {first} to {last} are missing."
