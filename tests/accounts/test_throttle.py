"""Wrong passwords slow down whoever tries them: on the login page, over the API, in the admin."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client, RequestFactory
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import throttle
from accounts.chain import append
from accounts.models import AuditEntry, User
from tests.conftest import PASSWORD

HERE, THERE = "203.0.113.5", "2001:db8::7"
SENTENCE = "Too many wrong passwords. Try again in "


def failures(count: int, *, username: str = "vera", address: str = HERE, at: datetime | None = None) -> None:
    told: dict[str, Any] = {"at": at} if at else {}
    append(*(AuditEntry(action=throttle.FAILED, username=username, address=address, **told) for _ in range(count)))


def page(address: str = HERE, *, username: str = "vera", password: str = PASSWORD) -> Any:
    return Client(REMOTE_ADDR=address).post("/login", {"username": username, "password": password})


def api(address: str = HERE, *, username: str = "vera", password: str = PASSWORD) -> Any:
    return APIClient(REMOTE_ADDR=address).post("/api/auth/login", {"username": username, "password": password})


def wait(username: str = "vera", address: str = HERE) -> int:
    return throttle.seconds_to_wait(username, RequestFactory().get("/", REMOTE_ADDR=address))


def test_one_below_the_limit_the_right_password_still_works(viewer: User) -> None:
    failures(throttle.PER_ACCOUNT_AND_ADDRESS - 1)
    assert page().status_code == 302


def test_an_account_is_closed_from_one_address_after_ten(viewer: User) -> None:
    for _ in range(throttle.PER_ACCOUNT_AND_ADDRESS):
        page(password="wrong")
    answer = page()
    assert answer.status_code == 200
    assert f"{SENTENCE}15 minutes." in answer.content.decode()


def test_the_same_account_may_log_in_from_elsewhere(viewer: User) -> None:
    failures(throttle.PER_ACCOUNT_AND_ADDRESS)
    assert page(THERE).status_code == 302
    assert api(THERE).status_code == 200


def test_another_account_may_log_in_from_the_same_address(viewer: User, operator: User) -> None:
    failures(throttle.PER_ACCOUNT_AND_ADDRESS)
    assert page(username="otto").status_code == 302


def test_an_address_is_closed_for_every_account_after_thirty(viewer: User) -> None:
    for number in range(throttle.PER_ADDRESS):
        failures(1, username=f"guess-{number}")
    assert SENTENCE in page().content.decode()
    assert page(THERE).status_code == 302


def test_an_account_is_closed_from_everywhere_after_a_hundred(viewer: User) -> None:
    for number in range(throttle.PER_ACCOUNT):
        failures(1, address=f"198.51.100.{number}")
    assert SENTENCE in page(THERE).content.decode()


def test_nobody_is_locked_out_of_where_they_have_been_let_in(viewer: User, operator: User) -> None:
    """Red without `_is_known`: a hundred addresses kept an administrator out for as long as they liked."""
    page(HERE)
    for number in range(throttle.PER_ACCOUNT):
        failures(1, address=f"198.51.100.{number}")
    assert page(HERE).status_code == 302
    assert SENTENCE in page(THERE).content.decode()
    page(THERE, username="otto")  # that otto was there says nothing of vera
    assert SENTENCE in page(THERE).content.decode()


def test_there_a_password_is_no_easier_to_guess(viewer: User) -> None:
    """Red when a known address is let off the other limits too."""
    page(HERE)
    failures(throttle.PER_ACCOUNT_AND_ADDRESS)
    assert SENTENCE in page(HERE).content.decode()


def test_a_place_is_forgotten_after_a_month(viewer: User) -> None:
    long_ago = timezone.now() - throttle.KNOWN_FOR - timedelta(minutes=1)
    append(AuditEntry(action="login", username="vera", address=HERE, at=long_ago))
    for number in range(throttle.PER_ACCOUNT):
        failures(1, address=f"198.51.100.{number}")
    assert SENTENCE in page(HERE).content.decode()


def test_what_is_tried_while_closed_is_not_counted(viewer: User) -> None:
    failures(throttle.PER_ACCOUNT_AND_ADDRESS)
    page(password="wrong")
    api(password="wrong")
    assert AuditEntry.objects.filter(action=throttle.FAILED).count() == throttle.PER_ACCOUNT_AND_ADDRESS


def test_a_quarter_of_an_hour_later_it_is_open_again(viewer: User) -> None:
    failures(throttle.PER_ACCOUNT_AND_ADDRESS, at=timezone.now() - throttle.WINDOW - timedelta(seconds=1))
    assert wait() == 0
    assert page().status_code == 302


def test_the_wait_ends_when_the_oldest_try_that_counts_leaves_the_window(viewer: User) -> None:
    failures(throttle.PER_ACCOUNT_AND_ADDRESS, at=timezone.now() - throttle.WINDOW + timedelta(seconds=100))
    assert 99 <= wait() <= 101


def test_the_page_speaks_of_one_minute(viewer: User) -> None:
    failures(throttle.PER_ACCOUNT_AND_ADDRESS, at=timezone.now() - throttle.WINDOW + timedelta(seconds=50))
    assert f"{SENTENCE}1 minute." in page().content.decode()


def test_the_api_answers_429_with_retry_after(viewer: User) -> None:
    failures(throttle.PER_ACCOUNT_AND_ADDRESS)
    answer = api()
    seconds = int(answer["Retry-After"])
    assert answer.status_code == 429
    assert 0 < seconds <= throttle.WINDOW.total_seconds() + 1
    assert answer.json() == {
        "error": {"code": "throttled", "message": f"Too many tries. Try again in {seconds} seconds.", "fields": {}}
    }


def test_tries_over_the_api_and_on_the_page_are_counted_together(viewer: User) -> None:
    for _ in range(throttle.PER_ACCOUNT_AND_ADDRESS // 2):
        page(password="wrong")
        api(password="wrong")
    assert api().status_code == 429


def test_the_admin_is_no_way_around(admin: User) -> None:
    failures(throttle.PER_ACCOUNT_AND_ADDRESS, username="ada")
    answer = Client(REMOTE_ADDR=HERE).post("/admin/login/", {"username": "ada", "password": PASSWORD})
    assert answer["Location"].startswith("/login?")  # where the throttle is


def test_a_name_that_nobody_has_is_throttled_too(viewer: User) -> None:
    failures(throttle.PER_ACCOUNT_AND_ADDRESS, username="nobody")
    assert api(username="nobody").status_code == 429


def test_a_very_long_name_is_counted_as_it_is_kept(viewer: User) -> None:
    name = "x" * 200
    for _ in range(throttle.PER_ACCOUNT_AND_ADDRESS):
        page(username=name)
    assert wait(name) > 0


@pytest.mark.django_db
def test_a_caller_without_an_address_is_counted_by_the_account() -> None:
    append(*(AuditEntry(action=throttle.FAILED, username="vera") for _ in range(throttle.PER_ACCOUNT_AND_ADDRESS)))
    assert throttle.seconds_to_wait("vera", None) > 0
    assert throttle.seconds_to_wait("otto", None) == 0


def test_renewing_a_token_is_not_slowed_by_wrong_passwords(viewer: User) -> None:
    refresh = api().json()["refresh_token"]
    failures(throttle.PER_ADDRESS)
    answer = APIClient(REMOTE_ADDR=HERE).post("/api/auth/refresh", {"refresh_token": refresh})
    assert answer.status_code == 200
