"""What a restore test found, as evidence that outlives everything: canonical JSON, signed with this site's own key.

Whoever has the file alone can see that nobody has changed it since; who made it says the public key, which the page of
each test shows: `manage.py verify_proof` compares it with those of this site.
"""

import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from accounts import encryption
from backups.models import RestoreTest

FORMAT = 1
METHOD = (
    "Borg extracted the files from the repository into an empty folder on the worker's machine. Each was then read "
    "from that disk: there is a regular file at its path, its size is that of the archive's listing, and its SHA-256 "
    "is the one that borg computed when it read the archive a second time."
)
NOT_COMPARED = (
    "Owners, permissions, times, ACLs, extended attributes and flags; symbolic links, devices and empty folders; and "
    "whether the archive holds all that it should."
)


class NoEvidence(Exception):
    """A file that is none of ours; a sentence says why."""


def canonical(evidence: dict[str, Any]) -> str:
    return json.dumps(evidence, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def signed(evidence: dict[str, Any]) -> dict[str, str]:
    """The columns of a RestoreTest that hold it."""
    key, text = encryption.signing_keys()[0], canonical(evidence)
    return {"evidence": text, "signature": key.sign(text.encode()).hex(), "public_key": public(key)}


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def is_signed(evidence: str, signature: str, public_key: str) -> bool:
    """Whether this very text was signed with the key of this public key."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), evidence.encode())
    except (ValueError, InvalidSignature):
        return False
    return True


def is_of_this_site(public_key: str) -> bool:
    """Whether it is one of our keys: as long as ENCRYPTION_KEYS lists the one of which it was made."""
    return public_key in map(public, encryption.signing_keys())


def as_file(test: RestoreTest) -> str:
    """To keep elsewhere. The evidence is a text in there, so that it stays what was signed."""
    names = ("evidence", "signature", "public_key")
    return json.dumps({name: getattr(test, name) for name in names}, indent=1) + "\n"


def read_file(text: str) -> tuple[str, str, str]:
    """Evidence, signature and public key of such a file. Raises NoEvidence."""
    try:
        told = json.loads(text)
        parts = told["evidence"], told["signature"], told["public_key"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NoEvidence("This is no file with the evidence of a restore test.") from error
    if not all(isinstance(part, str) for part in parts):
        raise NoEvidence("This is no file with the evidence of a restore test.")
    return parts
