"""The audit trail."""

import json

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.test import Client, RequestFactory
from rest_framework.test import APIClient

from accounts import audit
from accounts.models import AuditEntry, User
from tests.conftest import PASSWORD


def request_of(user: User | AnonymousUser, *, address: str = "203.0.113.5") -> HttpRequest:
    request = RequestFactory().post("/servers/add?secret=in-the-query", {"password": "in-the-body"})
    request.META["REMOTE_ADDR"] = address
    request.META["HTTP_AUTHORIZATION"] = "Bearer in-the-header"
    request.COOKIES["sessionid"] = "in-the-cookie"
    request.user = user
    return request


def test_the_requests_user_did_it(viewer: User) -> None:
    entry = audit.record("server.added", request=request_of(viewer), target="web-1", detail={"port": 22})
    entry.refresh_from_db()
    assert (entry.user, entry.username, entry.address) == (viewer, "vera", "203.0.113.5")
    assert (entry.action, entry.target, entry.detail) == ("server.added", "web-1", {"port": 22})


def test_a_named_user_goes_before_the_requests(viewer: User, operator: User) -> None:
    assert audit.record("x", request=request_of(viewer), user=operator).user == operator


def test_nobody_is_recorded_as_nobody(db: None) -> None:
    entry = audit.record("login.failed", request=request_of(AnonymousUser()), username="nobody")
    assert (entry.user, entry.username) == (None, "nobody")


def test_without_a_request_there_is_no_address(db: None) -> None:
    entry = audit.record("job.reaped")
    assert (entry.user, entry.username, entry.address) == (None, "", None)


def test_nothing_of_the_request_is_kept_but_the_address(viewer: User) -> None:
    audit.record("server.added", request=request_of(viewer))
    kept = str(AuditEntry.objects.values().get())
    for secret in ("in-the-query", "in-the-body", "in-the-header", "in-the-cookie"):
        assert secret not in kept


@pytest.mark.parametrize("address", ["203.0.113.5", "2001:db8::1", "::ffff:203.0.113.5"])
def test_every_kind_of_address_fits(viewer: User, address: str) -> None:
    entry = audit.record("x", request=request_of(viewer, address=address))
    entry.refresh_from_db()
    assert entry.address


def test_a_caller_over_a_socket_has_no_address(viewer: User) -> None:
    assert audit.record("x", request=request_of(viewer, address="")).address is None


def test_a_forwarded_address_is_not_believed_here(viewer: User) -> None:
    """Whoever may say who the caller is, is uvicorn's business (TRUSTED_PROXIES)."""
    headers = {"X-Forwarded-For": "198.51.100.9", "Forwarded": "for=198.51.100.9", "X-Real-Ip": "198.51.100.9"}
    Client(REMOTE_ADDR="203.0.113.5", headers=headers).post("/login", {"username": "vera", "password": "wrong"})
    assert AuditEntry.objects.get().address == "203.0.113.5"


def test_what_is_too_long_is_cut(db: None) -> None:
    entry = audit.record("x", username="u" * 500, target="t" * 500)
    entry.refresh_from_db()
    assert (len(entry.username), len(entry.target)) == (150, 200)


def test_an_entry_outlives_its_user(viewer: User) -> None:
    entry = audit.record("x", user=viewer)
    number = viewer.pk
    viewer.delete()
    entry.refresh_from_db()
    assert (entry.user_id, entry.username) == (number, "vera")


def test_the_newest_stands_first(db: None) -> None:
    first, second = audit.record("first"), audit.record("second")
    assert list(AuditEntry.objects.all()) == [second, first]


def test_an_api_change_is_audited_without_the_values(api_admin: APIClient) -> None:
    api_admin.post("/api/servers", {"name": "web-9", "address": "192.0.2.9"})
    entry = AuditEntry.objects.get(action="server.added")
    assert (entry.username, entry.target) == ("ada", "web-9")
    assert "PRIVATE KEY" not in json.dumps(entry.detail)


def test_no_entry_ever_holds_a_password(client: Client, viewer: User) -> None:
    for password in (PASSWORD, "the wrong password"):
        client.post("/login", {"username": "vera", "password": password})
        APIClient().post("/api/auth/login", {"username": "vera", "password": password})
    kept = str(list(AuditEntry.objects.values()))
    assert PASSWORD not in kept
    assert "the wrong password" not in kept
