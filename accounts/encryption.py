"""Secrets at rest: private keys, passphrases, repository keys.

Fernet (AES-128-CBC with HMAC-SHA256) under the keys of `ENCRYPTION_KEYS`, which live outside the
database. The newest key encrypts, every listed key decrypts; `rotate` moves a value to the newest.
Who calls `decrypt`: workers, on the way to borg or SSH, and the page with a repository's recovery kit.
"""

import secrets
from functools import cache

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from accounts.models import EncryptionCanary

CANARY = "phpBorg can read its secrets"
SIGNING, CHAINING = b"phpBorg signs evidence", b"phpBorg chains the audit trail"
OPENSSL_ITERATIONS = 1_000_000
OPENSSL_COMMAND = f"openssl enc -d -aes-256-cbc -pbkdf2 -md sha256 -iter {OPENSSL_ITERATIONS}"


class WrongKey(Exception):
    def __init__(self) -> None:
        super().__init__(
            "The encryption key does not fit the database: none of ENCRYPTION_KEYS can read what is stored. "
            "Put back the key file (encryption_keys in the data directory) or the variable "
            "ENCRYPTION_KEYS that this database was made with."
        )


def _cipher() -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in settings.ENCRYPTION_KEYS])
    except ValueError as error:
        raise ImproperlyConfigured(
            "ENCRYPTION_KEYS must be one or more Fernet keys (32 random bytes in URL-safe base64), separated by commas."
        ) from error


def encrypt(text: str) -> str:
    return _cipher().encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    """Return the text behind `token`. Raises WrongKey."""
    try:
        return _cipher().decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise WrongKey from error


def rotate(token: str) -> str:
    """Return `token` encrypted anew with the newest key. Raises WrongKey."""
    try:
        return _cipher().rotate(token.encode()).decode()
    except InvalidToken as error:
        raise WrongKey from error


def encrypt_for_openssl(data: bytes, passphrase: str) -> bytes:
    """As `openssl enc` writes it, so that OPENSSL_COMMAND opens it on any machine.

    It tells nobody that it was altered: who must know that compares its SHA-256.
    """
    salt = secrets.token_bytes(8)
    derived = PBKDF2HMAC(SHA256(), 48, salt, OPENSSL_ITERATIONS).derive(passphrase.encode())
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(derived[:32]), modes.CBC(derived[32:])).encryptor()
    padded = padder.update(data) + padder.finalize()
    return b"Salted__" + salt + encryptor.update(padded) + encryptor.finalize()


def signing_keys() -> list[Ed25519PrivateKey]:
    """With which this site signs what others shall believe: the newest first, as ENCRYPTION_KEYS.

    Of these and not of SECRET_KEY: they outlive a change of that, and are what everybody keeps a copy of.
    """
    return [Ed25519PrivateKey.from_private_bytes(_derived(key, SIGNING)) for key in settings.ENCRYPTION_KEYS]


def chaining_keys() -> list[bytes]:
    """With which the audit trail is chained, the newest first: whoever has only the database has none of them."""
    return [_derived(key, CHAINING) for key in settings.ENCRYPTION_KEYS]


@cache
def _derived(key: str, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=purpose).derive(key.encode())


class Sealer:
    """Seals the pieces of one stream, in order, so that what passes through Redis is unreadable there.

    AES-256-GCM under a key derived for this stream alone; the nonce is the piece's number, so a
    piece that is missing, repeated or out of order does not open.
    """

    def __init__(self, stream: str) -> None:
        key = HKDF(SHA256(), 32, salt=None, info=stream.encode()).derive(settings.ENCRYPTION_KEYS[0].encode())
        self._cipher = AESGCM(key)
        self._number = 0

    def _nonce(self) -> bytes:
        self._number += 1
        return self._number.to_bytes(12, "big")

    def seal(self, piece: bytes) -> bytes:
        return self._cipher.encrypt(self._nonce(), piece, None)

    def open(self, piece: bytes) -> bytes:
        """Raises WrongKey."""
        try:
            return self._cipher.decrypt(self._nonce(), piece, None)
        except InvalidTag as error:
            raise WrongKey from error


def verify() -> None:
    """Prove that our keys fit the database, or raise WrongKey; the first call leaves the proof there."""
    canary = EncryptionCanary.objects.order_by("pk").first()
    if canary is None:
        EncryptionCanary.objects.create(value=encrypt(CANARY))
    elif decrypt(canary.value) != CANARY:
        raise WrongKey
