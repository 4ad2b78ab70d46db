"""The recovery kit: what is in it, who gets it, and the nag until somebody says that it is stored.

That its script restores without phpBorg: tests/e2e/test_recovery_kit.py.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts import encryption
from accounts.access import Permission
from accounts.models import AuditEntry, Session, User
from backups.kit import CODE_LETTERS, kit_of, pieces_of
from backups.models import Archive, Plan, Repository, StoragePool
from backups.runners.import_ import ImportRepository
from jobs.models import Job
from jobs.runner import Refused
from servers.models import Server
from tests.conftest import HOST_KEY, PASSWORD, holder, page_of

pytestmark = pytest.mark.django_db

KEY = f"BORG_KEY {'ab' * 32}\n" + "\n".join(["hqlhbGdvcml0aG2mc2hhMjU2pGRhdGHaAZ5N1+/" * 2] * 9) + "\n"
OTHER_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q"
FILE_PASSPHRASE = "five words and some more"


@pytest.fixture
def repository(repository: Repository) -> Repository:
    Repository.objects.filter(pk=repository.pk).update(key_encrypted=encryption.encrypt(KEY))
    repository.refresh_from_db()
    return repository


@pytest.fixture
def at_account(repository: Repository) -> Repository:
    """The same at an SSH account."""
    pool = StoragePool.objects.create(
        name="box", path="./borg", address="192.0.2.8", port=23, username="u1", borg_command="borg-1.4",
        host_key=HOST_KEY, host_key_seen=HOST_KEY,
    )  # fmt: skip
    Repository.objects.filter(pk=repository.pk).update(pool=pool)
    return Repository.objects.get(pk=repository.pk)


def url(repository: Repository, what: str = "") -> str:
    return f"/repositories/{repository.pk}/kit{what}"


def asked(**changes: str) -> dict[str, str]:
    return {"password": PASSWORD, "file_passphrase": "", "file_passphrase_again": "", **changes}


def text_of(answer: Any) -> str:
    html: str = answer.getvalue().decode()
    return html


# --- What is in it --------------------------------------------------------------------------------


def test_it_says_what_is_needed_where_there_is_no_phpborg(archive: Archive, repository: Repository) -> None:
    Job.objects.create(type="check", repository=repository, worker="store-1:77")
    kit = kit_of(repository)
    assert (kit.location, kit.machine, kit.known_hosts) == (repository.path, "store-1", "")
    assert (kit.passphrase, kit.key, kit.borg_id) == ("s3cret passphrase", KEY, "ab" * 32)
    assert [one.name for one in kit.archives] == [archive.name]
    assert list(kit.files()) == ["README.txt", "restore.sh", "passphrase.txt", "key.txt"]
    assert "s3cret" not in repr(kit) and "BORG_KEY" not in repr(kit)


def test_of_one_at_an_account_it_has_the_host_key_and_not_our_own_key(at_account: Repository) -> None:
    kit = kit_of(at_account)
    assert kit.location == "ssh://u1@192.0.2.8:23/./borg/web-1"
    assert kit.files()["known_hosts"] == f"[192.0.2.8]:23 {HOST_KEY}\n"
    assert "remote_borg=borg-1.4" in kit.script
    assert kit.by_hand[0] == "export BORG_REMOTE_PATH=borg-1.4"
    assert "PRIVATE KEY" not in "".join(kit.files().values())


@pytest.mark.parametrize(
    ("mode", "files"),
    [
        ("repokey", {"passphrase.txt", "key.txt"}), ("authenticated-blake2", {"passphrase.txt", "key.txt"}),
        ("keyfile-blake2", {"passphrase.txt", "key.txt"}), ("none", set()),
    ],
)  # fmt: skip
def test_of_every_mode_it_has_what_there_is(repository: Repository, mode: str, files: set[str]) -> None:
    Repository.objects.update(encryption=mode, **({"key_encrypted": ""} if mode == "none" else {}))
    kit = kit_of(Repository.objects.get())
    assert set(kit.files()) == {"README.txt", "restore.sh", *files}
    assert any("key import" in command for command in kit.by_hand) == (mode in ("repokey", "authenticated-blake2"))


def test_nothing_in_a_name_is_run_by_the_script(repository: Repository, tmp_path: Path) -> None:
    """Red without the quotes."""
    odd = f"{tmp_path}/it's $(touch {tmp_path}/never) `id`"
    StoragePool.objects.update(path=odd)
    (tmp_path / "restore.sh").write_text(kit_of(Repository.objects.get()).script)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "borg").write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$SAID"\n')
    (tmp_path / "bin" / "borg").chmod(0o755)
    said = tmp_path / "said"
    subprocess.run(
        ["sh", "restore.sh"], check=True, cwd=tmp_path, env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "SAID": str(said)}
    )
    assert said.read_text() == f"list\n--bypass-lock\n{odd}/web-1\n"
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("length", [0, 1, CODE_LETTERS, CODE_LETTERS + 1, len(KEY), 4096])
def test_the_pieces_of_a_text_are_the_text(length: int) -> None:
    text = (KEY * 6)[:length]
    pieces = pieces_of(text)
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= CODE_LETTERS for piece in pieces)


def test_the_file_is_opened_with_openssl_and_what_it_is_not_is_noticed(repository: Repository, tmp_path: Path) -> None:
    kit = kit_of(repository)
    sealed = kit.sealed(FILE_PASSPHRASE)
    assert b"s3cret" not in sealed and b"BORG_KEY" not in sealed
    assert sealed != kit.sealed(FILE_PASSPHRASE)  # another salt
    (tmp_path / kit.file_name).write_bytes(sealed)

    def opened(passphrase: str) -> subprocess.CompletedProcess[bytes]:
        command = kit.open_command.partition(" | ")[0]
        return subprocess.run(
            ["sh", "-c", f"{command} -pass stdin"],
            cwd=tmp_path,
            input=passphrase.encode(),
            capture_output=True,
            check=False,
        )

    done = opened(FILE_PASSPHRASE)
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout), mode="r:gz") as tar:
        found = {entry.name: (entry.mode, tar.extractfile(entry).read().decode()) for entry in tar}  # type: ignore[union-attr]
    assert found == {
        f"{kit.folder}/{name}": (0o700 if name == "restore.sh" else 0o600, text) for name, text in kit.files().items()
    }
    assert opened("another one").stdout != done.stdout


# --- Taking it out --------------------------------------------------------------------------------


def test_the_form_shows_nothing_yet(as_admin: Client, repository: Repository) -> None:
    html = text_of(as_admin.get(url(repository), {"password": PASSWORD}))
    assert "s3cret passphrase" not in html and "BORG_KEY" not in html
    assert not AuditEntry.objects.filter(action="kit.taken_out").exists()


def test_who_says_again_who_they_are_gets_it_once(as_admin: Client, admin: User, repository: Repository) -> None:
    answer = as_admin.post(url(repository), asked())
    html = text_of(answer)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    assert "s3cret passphrase" in html and KEY.splitlines()[3] in html
    assert html.count('<svg viewBox="0 0') == 1 + len(kit_of(repository).key_codes) == 3
    for inline in (" style=", " onclick=", "<script>"):
        assert inline not in html
    entry = AuditEntry.objects.get(action="kit.taken_out")
    assert (entry.user, entry.target) == (admin, "web-1")
    assert entry.detail == {"kit": repository.kit_number, "file": False}
    for session in Session.objects.all():
        assert "s3cret" not in str(session.get_decoded())


def test_with_a_passphrase_for_it_the_file_is_in_the_page(as_admin: Client, repository: Repository) -> None:
    words = asked(file_passphrase=FILE_PASSPHRASE, file_passphrase_again=FILE_PASSPHRASE)
    answer = as_admin.post(url(repository), words)
    html = text_of(answer)
    assert 'href="data:application/octet-stream;base64,U2FsdGVkX1' in html  # "Salted__"
    assert answer.context["file_sha256"] in html
    assert FILE_PASSPHRASE not in html
    assert FILE_PASSPHRASE not in str(list(AuditEntry.objects.values()))


def test_with_another_password_nobody_gets_it(as_admin: Client, admin: User, repository: Repository) -> None:
    answer = as_admin.post(url(repository), asked(password="guessed"))
    assert answer.status_code == 400
    assert "This is not your password." in text_of(answer)
    assert "s3cret" not in text_of(answer)
    assert [entry.username for entry in AuditEntry.objects.filter(action="login.failed")] == [admin.username]


@pytest.mark.usefixtures("operator")
def test_the_password_of_somebody_else_is_none(as_admin: Client, operator: User, repository: Repository) -> None:
    operator.set_password("another good password")
    operator.save()
    assert as_admin.post(url(repository), asked(password="another good password")).status_code == 400


def test_whoever_guesses_is_slowed_down_as_at_the_login(as_admin: Client, repository: Repository) -> None:
    """Red without refuse_impatient: they would only be told that it is wrong."""
    for _ in range(10):
        as_admin.post(url(repository), asked(password="guessed"))
    answer = as_admin.post(url(repository), asked())
    assert answer.status_code == 400
    assert "Too many wrong passwords. Try again in 15 minutes." in text_of(answer)
    assert "s3cret" not in text_of(answer)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"file_passphrase": "short", "file_passphrase_again": "short"}, "at least 16 characters"),
        ({"file_passphrase": "1" * 16, "file_passphrase_again": "1" * 16}, "entirely numeric"),
        ({"file_passphrase": FILE_PASSPHRASE}, "These two are not the same."),
        ({"file_passphrase_again": FILE_PASSPHRASE}, "These two are not the same."),
        ({"file_passphrase": PASSWORD, "file_passphrase_again": PASSWORD}, "Not your password"),
        ({"file_passphrase": f" {FILE_PASSPHRASE}", "file_passphrase_again": f" {FILE_PASSPHRASE}"}, "begin or end"),
        ({"file_passphrase": f"{FILE_PASSPHRASE}\n7", "file_passphrase_again": f"{FILE_PASSPHRASE}\n7"}, "control"),
        ({"password": ""}, "This field is required."),
    ],
)
def test_what_is_filled_in_wrong_is_said(
    as_admin: Client, repository: Repository, words: dict[str, str], sentence: str
) -> None:
    answer = as_admin.post(url(repository), asked(**words))
    assert answer.status_code == 400
    assert sentence in text_of(answer)
    assert "s3cret" not in text_of(answer)
    assert not AuditEntry.objects.filter(action="kit.taken_out").exists()


@pytest.mark.parametrize("permission", [Permission.BACKUP_MANAGE, Permission.BACKUP_RESTORE])
def test_half_of_the_permissions_is_not_enough(repository: Repository, permission: Permission) -> None:
    client = page_of(holder("hal", Permission.BACKUP_VIEW, permission))
    assert client.get(url(repository)).status_code == 403
    assert client.post(url(repository), asked()).status_code == 403


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"state": "creating"}, "is still being made."), ({"state": "failed"}, "could not be made."),
        ({"passphrase_encrypted": ""}, "phpBorg does not know the passphrase of web-1: there can be no recovery kit."),
    ],
)  # fmt: skip
def test_of_what_is_not_there_is_no_kit(
    as_admin: Client, repository: Repository, changes: dict[str, str], sentence: str
) -> None:
    Repository.objects.update(**changes)
    for answer in (as_admin.get(url(repository), follow=True), as_admin.post(url(repository), asked(), follow=True)):
        assert sentence in text_of(answer)
    with pytest.raises(Refused):
        kit_of(Repository.objects.get())


def test_one_without_encryption_says_so(as_admin: Client, repository: Repository) -> None:
    Repository.objects.update(encryption="none", passphrase_encrypted=encryption.encrypt(""), key_encrypted="")
    html = text_of(as_admin.post(url(repository), asked()))
    assert "It is not encrypted: it has no passphrase and no key." in html
    assert "<svg viewBox" not in html


def test_one_whose_key_was_never_kept_says_so(as_admin: Client, repository: Repository) -> None:
    Repository.objects.update(key_encrypted="")
    html = text_of(as_admin.post(url(repository), asked()))
    assert "phpBorg has no copy of the key: it is in the repository alone." in html
    assert "key import" not in html.partition("restore.sh</h2>")[0]


# --- Until somebody says that it is stored ----------------------------------------------------------

NAG = "Its recovery kit is not stored yet."


def say_so(client: Client, repository: Repository, number: str = "") -> Any:
    number = number or Repository.objects.get(pk=repository.pk).kit_number
    return client.post(url(repository, "/stored"), {"kit": number}, follow=True)


def nags(client: Client, repository: Repository) -> bool:
    html = text_of(client.get(f"/repositories/{repository.pk}"))
    return NAG in html or "Its recovery kit has changed since it was stored." in html


def test_it_nags_until_somebody_says_so(as_admin: Client, admin: User, repository: Repository) -> None:
    assert nags(as_admin, repository)
    assert "is noted as stored." in text_of(say_so(as_admin, repository))
    assert not nags(as_admin, repository)
    repository.refresh_from_db()
    assert (repository.kit_stored_by, repository.kit_stored) == (admin.username, repository.kit_number)
    entry = AuditEntry.objects.get(action="kit.stored")
    assert (entry.user, entry.target, entry.detail) == (admin, "web-1", {"kit": repository.kit_number})


def test_who_can_do_nothing_about_it_is_left_in_peace(as_viewer: Client, repository: Repository) -> None:
    assert not nags(as_viewer, repository)
    assert "recovery kit" not in text_of(as_viewer.get("/"))


def test_the_number_of_a_kit_that_has_changed_since_is_refused(as_admin: Client, repository: Repository) -> None:
    """Red without the number: a page of yesterday would say that the kit of today is stored."""
    number = repository.kit_number
    Repository.objects.update(passphrase_encrypted=encryption.encrypt("another"))
    assert "is another one by now: take it out again." in text_of(say_so(as_admin, repository, number))
    assert nags(as_admin, repository)


def another_passphrase(repository: Repository) -> None:
    Repository.objects.update(passphrase_encrypted=encryption.encrypt("another"))


def another_key(repository: Repository) -> None:
    Repository.objects.update(key_encrypted=encryption.encrypt(KEY.replace("ab", "cd")))


def another_place(repository: Repository) -> None:
    repository.pool.path = "./elsewhere"
    repository.pool.save()


def another_borg(repository: Repository) -> None:
    repository.pool.borg_command = "borg-1.2"
    repository.pool.save()


def another_host_key(repository: Repository) -> None:
    StoragePool.objects.filter(pk=repository.pool_id).update(host_key_seen=OTHER_HOST_KEY)
    pool = StoragePool.objects.get(pk=repository.pool_id)
    assert pool.confirm_host_key(pool.fingerprint_seen)


@pytest.mark.parametrize(
    "change", [another_passphrase, another_key, another_place, another_borg, another_host_key],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_it_nags_again_when_the_kit_is_another_one(
    as_admin: Client, api_admin: APIClient, at_account: Repository, change: Any
) -> None:
    """Red without kit_number."""
    say_so(as_admin, at_account)
    assert not nags(as_admin, at_account)
    change(Repository.objects.get(pk=at_account.pk))
    assert nags(as_admin, at_account)
    assert api_admin.get(f"/api/repositories/{at_account.pk}").json()["kit_stored_at"] is None


@pytest.mark.parametrize("change", [another_place, another_borg, another_host_key], ids=lambda change: change.__name__)
def test_the_dashboard_counts_it_again_too(as_admin: Client, at_account: Repository, change: Any) -> None:
    """Red without forget_stored_kits: it can only count what is in a column."""
    say_so(as_admin, at_account)
    change(Repository.objects.get(pk=at_account.pk))
    assert "One recovery kit is not stored yet." in text_of(as_admin.get("/"))


def test_what_changes_nothing_in_it_leaves_it_stored(as_admin: Client, at_account: Repository) -> None:
    say_so(as_admin, at_account)
    pool = StoragePool.objects.get(pk=at_account.pool_id)
    pool.name = "other"
    pool.save()
    assert pool.confirm_host_key(pool.fingerprint_seen)
    assert not nags(as_admin, at_account)
    assert "recovery kit" not in text_of(as_admin.get("/"))


def test_what_is_imported_anew_has_a_kit_that_nobody_has_stored(repository: Repository, server: Server) -> None:
    Repository.objects.update(state="failed", kit_stored_at="2026-01-01T00:00:00Z")
    ImportRepository.begin(server=server, pool=repository.pool, name="web-1", passphrase="another")
    assert Repository.objects.get().kit_stored_at is None


def test_the_dashboard_counts_those_and_leads_to_them(as_admin: Client, plan: Plan, repository: Repository) -> None:
    Repository.objects.create(name="web-2", pool=repository.pool, server=repository.server, state="ready")
    Repository.objects.create(name="web-3", pool=repository.pool, server=repository.server, state="creating")
    assert "2 recovery kits are not stored yet." in text_of(as_admin.get("/"))
    say_so(as_admin, repository)
    assert "One recovery kit is not stored yet." in text_of(as_admin.get("/"))
    html = text_of(as_admin.get("/repositories?kit=missing"))
    assert ">web-2</a>" in html and f'href="/repositories/{repository.pk}"' not in html and ">web-3</a>" not in html


# --- Over the API -----------------------------------------------------------------------------------


def test_a_program_says_so_with_the_number(api_admin: APIClient, repository: Repository) -> None:
    path = f"/api/repositories/{repository.pk}"
    assert api_admin.get("/api/repositories").json()["results"][0]["kit_stored_at"] is None
    assert api_admin.patch(path, {"kit_stored_at": "2026-01-01T00:00:00Z"}).status_code == 400
    refused = api_admin.post(f"{path}/kit/stored", {"kit": "0" * 12})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    told = api_admin.post(f"{path}/kit/stored", {"kit": repository.kit_number})
    assert told.status_code == 200
    assert told.json()["kit_stored_at"] == api_admin.get(path).json()["kit_stored_at"] is not None


def test_no_program_takes_it_out(api_admin: APIClient, repository: Repository) -> None:
    assert api_admin.post(f"/api/repositories/{repository.pk}/kit", asked()).status_code == 404
    assert api_admin.post(url(repository), asked()).status_code == 302  # the page knows no tokens
