"""The page /profile/password: one password for another, and the end of everything that the old one opened."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from tests.conftest import PASSWORD, page_of

NEW = "a longer and better password"


def change(client: Client, *, old: str = PASSWORD, new: str = NEW, again: str | None = None) -> Any:
    fields = {"old_password": old, "new_password1": new, "new_password2": new if again is None else again}
    return client.post("/profile/password", fields)


def test_the_new_password_works_and_the_old_one_does_not(as_viewer: Client, viewer: User) -> None:
    answer = change(as_viewer)
    viewer.refresh_from_db()
    assert answer["Location"] == "/profile"
    assert viewer.check_password(NEW)
    assert not viewer.check_password(PASSWORD)


def test_a_change_is_audited_without_a_password(as_viewer: Client, viewer: User) -> None:
    change(as_viewer)
    entry = AuditEntry.objects.get(action="password.changed")
    assert (entry.user, entry.detail) == (viewer, {})
    assert NEW not in f"{entry.target} {entry}"


def test_the_wrong_old_password_changes_nothing(as_viewer: Client, viewer: User) -> None:
    answer = change(as_viewer, old="wrong")
    viewer.refresh_from_db()
    assert "old_password" in answer.context["form"].errors
    assert viewer.check_password(PASSWORD)
    assert not AuditEntry.objects.filter(action="password.changed").exists()


@pytest.mark.parametrize("weak", ["short1!", "12345678901234", "password123", "ivanovskaya1", ""])
def test_a_weak_password_is_refused(as_viewer: Client, viewer: User, weak: str) -> None:
    User.objects.filter(pk=viewer.pk).update(last_name="Ivanovskaya")
    answer = change(as_viewer, new=weak)
    viewer.refresh_from_db()
    assert answer.context["form"].errors
    assert viewer.check_password(PASSWORD)


def test_two_different_new_passwords_are_refused(as_viewer: Client, viewer: User) -> None:
    answer = change(as_viewer, again="something else entirely")
    viewer.refresh_from_db()
    assert "new_password2" in answer.context["form"].errors
    assert viewer.check_password(PASSWORD)


def test_this_session_goes_on_and_every_other_one_ends(as_viewer: Client, viewer: User) -> None:
    elsewhere = page_of(viewer)
    change(as_viewer)
    assert as_viewer.get("/").status_code == 200
    assert elsewhere.get("/").status_code == 302


def test_every_token_ends(as_viewer: Client, viewer: User) -> None:
    api = APIClient()
    pair = api.post("/api/auth/login", {"username": "vera", "password": PASSWORD}).json()
    change(as_viewer)
    me = api.get("/api/auth/me", headers={"Authorization": f"Bearer {pair['access_token']}"})
    renewed = api.post("/api/auth/refresh", {"refresh_token": pair["refresh_token"]})
    assert (me.status_code, renewed.status_code) == (401, 401)


def test_another_persons_sessions_and_tokens_go_on(as_viewer: Client, as_operator: Client, api_operator: Any) -> None:
    change(as_viewer)
    assert as_operator.get("/").status_code == 200
    assert api_operator.get("/api/auth/me").status_code == 200


def test_who_is_not_signed_in_goes_to_the_login(client: Client, db: None) -> None:
    assert change(client)["Location"].startswith("/login")


def test_the_form_does_not_show_what_was_typed(as_viewer: Client) -> None:
    html = change(as_viewer, new="12345678901234").content.decode()
    assert "12345678901234" not in html
    assert PASSWORD not in html
