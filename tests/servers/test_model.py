import io
from typing import Any

import paramiko
import pytest
from django.db import connection

from accounts import encryption
from servers.models import Server
from servers.ssh.remote import HostKey, Login
from servers.ssh.transport import HostKeyUnconfirmed
from tests.conftest import HOST_KEY
from tests.servers.conftest import FINGERPRINT, OTHER_HOST_KEY

pytestmark = pytest.mark.django_db


# --- The key pair -----------------------------------------------------------------------------


def test_a_new_server_gets_a_key_pair_of_its_own() -> None:
    one, two = (Server.objects.create(name=name, address="192.0.2.1") for name in ("a", "b"))
    assert one.public_key.startswith("ssh-ed25519 ")
    assert one.public_key.endswith(" phpborg@a")
    assert one.public_key.split()[1] != two.public_key.split()[1]


def test_the_private_key_belongs_to_the_public_one(server: Server) -> None:
    private = encryption.decrypt(server.private_key_encrypted)
    assert paramiko.Ed25519Key.from_private_key(io.StringIO(private)).get_base64() == server.public_key.split()[1]


def test_the_key_pair_is_made_once(server: Server) -> None:
    before = server.public_key, server.private_key_encrypted
    server.name = "renamed"
    server.save()
    server.refresh_from_db()
    assert (server.public_key, server.private_key_encrypted) == before


def test_the_private_key_is_encrypted_in_the_database(server: Server) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM servers_server")
        row = " ".join(str(value) for value in cursor.fetchone())
    secret = encryption.decrypt(server.private_key_encrypted).splitlines()[2]
    assert "PRIVATE KEY" not in row
    assert secret not in row


def test_neither_the_server_nor_its_login_show_the_private_key(server: Server) -> None:
    private = encryption.decrypt(server.private_key_encrypted)
    login = Login("192.0.2.7", 22, "root", private)
    for text in (repr(server), str(server), repr(login), str(login)):
        assert "PRIVATE" not in text


# --- Getting in -------------------------------------------------------------------------------


class NoRemote:
    def __init__(self, *_: object) -> None:
        raise AssertionError("Something was sent.")


def test_nothing_is_sent_before_somebody_confirmed_the_host_key(
    new_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servers.models.Remote", NoRemote)
    with pytest.raises(HostKeyUnconfirmed, match="Nobody has confirmed the host key of db-1 yet"):
        new_server.connect()


def test_connecting_pins_the_confirmed_key_and_notes_when(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr("servers.models.Remote", lambda login, host_key, name: made.append((login, host_key, name)))
    server.host_key_seen = OTHER_HOST_KEY  # what it showed last is not what was confirmed
    server.connect()
    login, host_key, name = made[0]
    assert name == server.name
    assert str(host_key) == HOST_KEY
    assert (login.host, login.port, login.user) == ("192.0.2.7", 22, "root")
    assert "OPENSSH PRIVATE KEY" in login.private_key
    server.refresh_from_db()
    assert server.seen_at is not None


@pytest.mark.parametrize(
    ("username", "use_sudo", "needed"),
    [("root", True, False), ("root", False, False), ("borg", True, True), ("borg", False, False)],
)
def test_only_another_user_than_root_needs_sudo(server: Server, username: str, use_sudo: bool, needed: bool) -> None:
    server.username, server.use_sudo = username, use_sudo
    assert server.needs_sudo is needed


# --- The host key -----------------------------------------------------------------------------


def test_a_fingerprint_looks_as_ssh_keygen_shows_it(server: Server) -> None:
    assert server.fingerprint == FINGERPRINT


def test_without_a_key_there_is_no_fingerprint() -> None:
    server = Server(name="a")
    assert (server.fingerprint, server.fingerprint_seen, server.host_key_changed) == ("", "", False)


def test_a_key_has_changed_only_if_another_was_confirmed(server: Server, new_server: Server) -> None:
    assert not server.host_key_changed
    assert not new_server.host_key_changed
    server.host_key_seen = OTHER_HOST_KEY
    assert server.host_key_changed


def test_confirming_pins_the_key_that_was_shown(new_server: Server) -> None:
    assert new_server.confirm_host_key(FINGERPRINT)
    new_server.refresh_from_db()
    assert new_server.host_key == HOST_KEY


@pytest.mark.parametrize("fingerprint", ["", "SHA256:", "SHA256:" + "A" * 43, FINGERPRINT.lower(), FINGERPRINT + "="])
def test_another_fingerprint_confirms_nothing(new_server: Server, fingerprint: str) -> None:
    assert not new_server.confirm_host_key(fingerprint)
    new_server.refresh_from_db()
    assert new_server.host_key == ""


def test_a_server_that_showed_no_key_cannot_be_confirmed() -> None:
    server = Server.objects.create(name="a", address="192.0.2.1")
    assert not server.confirm_host_key("")


def test_a_key_that_changed_between_look_and_click_is_not_confirmed(new_server: Server) -> None:
    looked_at = Server.objects.get(pk=new_server.pk)
    new_server.remember_host_key(HostKey.parse(OTHER_HOST_KEY))
    assert not looked_at.confirm_host_key(FINGERPRINT)
    new_server.refresh_from_db()
    assert new_server.host_key == ""


def test_remembering_a_key_confirms_nothing_and_leaves_the_rest(new_server: Server) -> None:
    Server.objects.filter(pk=new_server.pk).update(system="Debian")
    new_server.remember_host_key(HostKey.parse(OTHER_HOST_KEY))
    new_server.refresh_from_db()
    assert (new_server.host_key_seen, new_server.host_key) == (OTHER_HOST_KEY, "")
    assert new_server.system == "Debian"


# --- What can be used -------------------------------------------------------------------------


def test_usable_are_servers_that_are_on_and_confirmed(server: Server, new_server: Server) -> None:
    Server.objects.create(name="off", address="192.0.2.3", host_key=HOST_KEY, enabled=False)
    assert list(Server.objects.usable()) == [server]


def test_who_saves_a_server_leaves_its_key_pair_alone(server: Server) -> None:
    """Red when all of the row is written: a key that was renewed since would be lost, and with it the way in."""
    Server.objects.filter(pk=server.pk).update(public_key="ssh-ed25519 new", private_key_encrypted="new")
    server.address = "192.0.2.77"
    server.save()
    server.refresh_from_db()
    assert (server.address, server.public_key, server.private_key_encrypted) == ("192.0.2.77", "ssh-ed25519 new", "new")
