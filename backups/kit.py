"""The recovery kit of a repository: all that gets its archives back when there is no phpBorg any more.

It is the one place where a person takes secrets out. Nothing of it is stored: it is made, shown once, and gone.
"""

import io
import shlex
import tarfile
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import segno
from django.db import transaction
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.request import Request

from accounts import audit, encryption
from accounts.access import signed_in
from backups.models import Archive, Repository
from jobs.runner import Refused
from servers.ssh.openssh import known_hosts_line
from servers.ssh.remote import HostKey

SCRIPT = Path(__file__).with_name("restore.sh")
NEWEST_NAMED = 3
CODE_LETTERS = 450  # in one QR code: at 4 cm its points are still half a millimetre wide


@dataclass(frozen=True)
class Kit:
    """What somebody needs to know who has never seen phpBorg."""

    number: str  # of what is in it: another one when anything of that has changed
    name: str
    server: str
    pool: str
    location: str
    machine: str  # on which a path lies, as its workers call it; "": where the location says, or nobody knows
    known_hosts: str  # lines; "" for a path
    fingerprint: str
    remote_borg: str
    encryption: str
    borg_id: str
    borg_version: str  # of the server's borg, that writes to it; "": not known
    archives: tuple[Archive, ...]  # the newest
    made_at: datetime
    passphrase: str = field(repr=False)
    key: str = field(repr=False)  # as `borg key export` prints it; "": there is none, or it is not kept

    @property
    def is_encrypted(self) -> bool:
        return self.encryption != "none"

    @property
    def holds_its_key(self) -> bool:
        """Whether the key is in the repository itself, so that it can be put back there."""
        return self.is_encrypted and not self.encryption.startswith("keyfile")

    @property
    def is_remote(self) -> bool:
        return self.known_hosts != ""

    @property
    def script(self) -> str:
        words = {
            "location": self.location, "id": self.borg_id, "mode": self.encryption, "remote_borg": self.remote_borg,
        }  # fmt: skip
        settings = "\n".join(f"{name}={shlex.quote(word)}" for name, word in words.items())
        return SCRIPT.read_text().replace("@SETTINGS@", settings)

    @property
    def folder(self) -> str:
        return f"recovery-kit-{self.pool}-{self.name}"

    @property
    def file_name(self) -> str:
        return f"{self.folder}.tar.gz.enc"

    @property
    def open_command(self) -> str:
        return f"{encryption.OPENSSL_COMMAND} -in {self.file_name} | tar xz"

    @property
    def by_hand(self) -> list[str]:
        """What the script does, for somebody who has only the printed page."""
        where = shlex.quote(self.location)
        return [
            *([f"export BORG_REMOTE_PATH={shlex.quote(self.remote_borg)}"] if self.remote_borg else []),
            *([f"borg key import {where} key.txt"] if self.holds_its_key and self.key else []),
            *(['export BORG_KEY_FILE="$PWD/key.txt"'] if self.encryption.startswith("keyfile") else []),
            f"borg list {where}",
            f"mkdir restored && cd restored && borg extract {where}::ARCHIVE",
        ]

    @cached_property
    def passphrase_codes(self) -> list[str]:
        return codes_of(self.passphrase)

    @cached_property
    def key_codes(self) -> list[str]:
        return codes_of(self.key)

    def files(self) -> dict[str, str]:
        """By their names in the kit's folder."""
        files = {
            "README.txt": render_to_string("repositories/kit.txt", {"kit": self}),
            "restore.sh": self.script,
            "known_hosts": self.known_hosts,
            "passphrase.txt": f"{self.passphrase}\n" if self.is_encrypted else "",
            "key.txt": self.key,
        }
        return {name: text for name, text in files.items() if text}

    def sealed(self, passphrase: str) -> bytes:
        """The folder as one encrypted file, that `open_command` opens where there is no phpBorg."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for name, text in self.files().items():
                entry = tarfile.TarInfo(f"{self.folder}/{name}")
                entry.size, entry.mtime = len(text.encode()), int(self.made_at.timestamp())
                entry.mode = 0o700 if name.endswith(".sh") else 0o600
                tar.addfile(entry, io.BytesIO(text.encode()))
        return encryption.encrypt_for_openssl(packed.getvalue(), passphrase)


def kit_of(repository: Repository) -> Kit:
    """Decrypts its secrets: for somebody who has just said again who they are. Raises Refused."""
    refuse_unkept(repository)
    pool = repository.pool
    secrets = (repository.passphrase_encrypted, repository.key_encrypted)
    passphrase, key = (encryption.decrypt(token) if token else "" for token in secrets)
    host_key = HostKey.parse(pool.host_key) if pool.is_remote and pool.host_key else None
    return Kit(
        number=repository.kit_number, name=repository.name, server=repository.server.name, pool=pool.name,
        location=repository.location, machine="" if pool.is_remote else _machine_of(repository),
        known_hosts=known_hosts_line(pool.address, pool.port, host_key) if host_key else "",
        fingerprint=pool.fingerprint if pool.is_remote else "", remote_borg=pool.borg_command,
        encryption=repository.encryption, borg_id=repository.borg_id, borg_version=repository.server.borg_version,
        archives=tuple(repository.archives.order_by("-start", "-id")[:NEWEST_NAMED]), made_at=timezone.now(),
        passphrase=passphrase, key=key,
    )  # fmt: skip


def refuse_unkept(repository: Repository) -> None:
    """Raise Refused unless we know what a kit needs."""
    name: dict[str, Any] = {"name": repository.name}
    if repository.state == Repository.State.CREATING:
        raise Refused(_("The repository %(name)s is still being made.") % name)
    if repository.state == Repository.State.FAILED:
        raise Refused(_("The repository %(name)s could not be made. Look at its page.") % name)
    if repository.encryption != "none" and not repository.passphrase_encrypted:
        raise Refused(_("phpBorg does not know the passphrase of %(name)s: there can be no recovery kit.") % name)


@transaction.atomic
def note_stored(repository: Repository, number: str, request: HttpRequest | Request) -> None:
    """Somebody says that the kit of this number is stored where phpBorg is not. Raises Refused."""
    refuse_unkept(repository)
    if number != repository.kit_number:
        raise Refused(
            _("The recovery kit of %(name)s is another one by now: take it out again.") % {"name": repository.name}
        )
    repository.kit_stored_at, repository.kit_stored = timezone.now(), number
    repository.kit_stored_by = signed_in(request).username
    repository.save(update_fields=["kit_stored_at", "kit_stored", "kit_stored_by"])
    audit.record("kit.stored", request=request, target=repository.name, detail={"kit": number})


def _machine_of(repository: Repository) -> str:
    """Where its jobs run, says the newest that a worker has taken."""
    worker = repository.jobs.exclude(worker="").order_by("-created_at").values_list("worker", flat=True).first()
    return (worker or "").rpartition(":")[0]


def codes_of(text: str) -> list[str]:
    """QR codes that together say `text`, each as an SVG image."""
    return [
        segno.make(piece, micro=False, error="m").svg_inline(omitsize=True, dark="#000", light="#fff", svgclass="qr")
        for piece in pieces_of(text)
    ]


def pieces_of(text: str) -> list[str]:
    """`text` in pieces for a code each, all of about one length."""
    number = -(-len(text) // CODE_LETTERS)
    length = -(-len(text) // number) if number else 1
    return [text[start : start + length] for start in range(0, len(text), length)]
