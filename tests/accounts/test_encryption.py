"""Secrets at rest, and sealed streams."""

from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from accounts import encryption
from accounts.encryption import Sealer, WrongKey, decrypt, encrypt, rotate
from accounts.models import EncryptionCanary


def new_key() -> str:
    return Fernet.generate_key().decode()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_goes_in_comes_out(text: str) -> None:
    assert decrypt(encrypt(text)) == text


@pytest.mark.parametrize(
    "text", ["", "s3cret", "with 'quotes', $dollar and spaces", "\0\n\r", "ключ \U0001f511", "x" * 10**6]
)
def test_awkward_secrets_too(text: str) -> None:
    assert decrypt(encrypt(text)) == text


def test_the_secret_cannot_be_read_and_is_never_the_same_twice() -> None:
    first, second = encrypt("s3cret passphrase"), encrypt("s3cret passphrase")
    assert "s3cret" not in first
    assert first != second


def test_a_changed_value_is_refused() -> None:
    token = encrypt("s3cret")
    changed = token[:20] + ("A" if token[20] != "A" else "B") + token[21:]
    with pytest.raises(WrongKey):
        decrypt(changed)


@pytest.mark.parametrize("token", ["", "x", "s3cret", "ä", "gAAAAA=="])
def test_what_was_never_encrypted_is_refused(token: str) -> None:
    with pytest.raises(WrongKey):
        decrypt(token)


def test_another_key_cannot_read_it(settings: Any) -> None:
    token = encrypt("s3cret")
    settings.ENCRYPTION_KEYS = [new_key()]
    with pytest.raises(WrongKey, match="The encryption key does not fit the database"):
        decrypt(token)


def test_the_sentence_of_a_wrong_key_names_no_secret(settings: Any) -> None:
    token = encrypt("s3cret")
    old, settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS, [new_key()]
    with pytest.raises(WrongKey) as caught:
        decrypt(token)
    assert not any(key in str(caught.value) for key in (*old, *settings.ENCRYPTION_KEYS, token))


def test_an_older_key_still_reads_and_the_newest_writes(settings: Any) -> None:
    old, new = settings.ENCRYPTION_KEYS[0], new_key()
    before = encrypt("s3cret")
    settings.ENCRYPTION_KEYS = [new, old]
    after = encrypt("another")
    assert decrypt(before) == "s3cret"
    settings.ENCRYPTION_KEYS = [new]
    assert decrypt(after) == "another"


def test_rotate_moves_a_value_to_the_newest_key(settings: Any) -> None:
    old, new = settings.ENCRYPTION_KEYS[0], new_key()
    token = encrypt("s3cret")
    settings.ENCRYPTION_KEYS = [new, old]
    rotated = rotate(token)
    settings.ENCRYPTION_KEYS = [new]
    assert decrypt(rotated) == "s3cret"
    with pytest.raises(WrongKey):
        decrypt(token)


def test_rotate_refuses_what_no_key_reads(settings: Any) -> None:
    token = encrypt("s3cret")
    settings.ENCRYPTION_KEYS = [new_key(), new_key()]
    with pytest.raises(WrongKey):
        rotate(token)


@pytest.mark.parametrize("keys", [["too short"], [""], ["x" * 44], [new_key(), "broken"]])
def test_a_key_that_is_none_is_refused_in_words(settings: Any, keys: list[str]) -> None:
    settings.ENCRYPTION_KEYS = keys
    with pytest.raises(ImproperlyConfigured, match="ENCRYPTION_KEYS must be one or more Fernet keys"):
        encrypt("x")


# --- The canary ---------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_first_start_leaves_a_canary_that_is_encrypted() -> None:
    encryption.verify()
    encryption.verify()
    canary = EncryptionCanary.objects.get()
    assert encryption.CANARY not in canary.value
    assert decrypt(canary.value) == encryption.CANARY


@pytest.mark.django_db
def test_another_key_does_not_pass_the_canary(settings: Any) -> None:
    encryption.verify()
    settings.ENCRYPTION_KEYS = [new_key()]
    with pytest.raises(WrongKey):
        encryption.verify()
    assert EncryptionCanary.objects.count() == 1


@pytest.mark.django_db
def test_a_new_key_beside_the_old_one_passes(settings: Any) -> None:
    encryption.verify()
    settings.ENCRYPTION_KEYS = [new_key(), *settings.ENCRYPTION_KEYS]
    encryption.verify()


@pytest.mark.django_db
def test_a_canary_with_another_sentence_does_not_pass() -> None:
    EncryptionCanary.objects.create(value=encrypt("something else"))
    with pytest.raises(WrongKey):
        encryption.verify()


@pytest.mark.django_db
def test_a_worker_with_the_wrong_key_refuses_to_start(settings: Any) -> None:
    encryption.verify()
    settings.ENCRYPTION_KEYS = [new_key()]
    with pytest.raises(CommandError, match="The encryption key does not fit the database"):
        call_command("worker", burst=True)


# --- Sealed streams -----------------------------------------------------------------------------


def test_pieces_open_in_the_order_in_which_they_were_sealed() -> None:
    ours, theirs = Sealer("pipe 1"), Sealer("pipe 1")
    pieces = [b"", b"one", b"two" * 100_000, bytes(range(256))]
    sealed = [ours.seal(piece) for piece in pieces]
    assert [theirs.open(piece) for piece in sealed] == pieces


def test_a_sealed_piece_cannot_be_read() -> None:
    assert b"the content" not in Sealer("pipe 1").seal(b"the content of a file")


def test_the_same_piece_is_sealed_differently_each_time() -> None:
    sealer = Sealer("pipe 1")
    assert sealer.seal(b"same") != sealer.seal(b"same")


@pytest.mark.parametrize("order", [[1, 0], [1], [0, 0], [0, 2]])
def test_pieces_that_are_missing_repeated_or_out_of_order_do_not_open(order: list[int]) -> None:
    ours, theirs = Sealer("pipe 1"), Sealer("pipe 1")
    sealed = [ours.seal(piece) for piece in (b"one", b"two", b"three")]
    with pytest.raises(WrongKey):
        b"".join(theirs.open(sealed[number]) for number in order)


@pytest.mark.parametrize("place", [0, 5, -1])
def test_a_piece_with_one_bit_changed_does_not_open(place: int) -> None:
    sealed = bytearray(Sealer("pipe 1").seal(b"the content"))
    sealed[place] ^= 1
    with pytest.raises(WrongKey):
        Sealer("pipe 1").open(bytes(sealed))


def test_a_piece_of_another_stream_does_not_open() -> None:
    with pytest.raises(WrongKey):
        Sealer("pipe 2").open(Sealer("pipe 1").seal(b"x"))


def test_a_piece_under_another_key_does_not_open(settings: Any) -> None:
    sealed = Sealer("pipe 1").seal(b"x")
    settings.ENCRYPTION_KEYS = [new_key()]
    with pytest.raises(WrongKey):
        Sealer("pipe 1").open(sealed)


@pytest.mark.parametrize("piece", [b"", b"x", b"x" * 16, b"x" * 100])
def test_what_was_never_sealed_does_not_open(piece: bytes) -> None:
    with pytest.raises(WrongKey):
        Sealer("pipe 1").open(piece)
