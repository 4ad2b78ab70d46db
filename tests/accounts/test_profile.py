"""The page /profile: who one is, and how one likes to see things."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from jobs.models import Job

FIELDS = {
    "first_name": "Vera", "last_name": "Ivanova", "email": "vera@example.org", "time_zone": "Pacific/Auckland",
    "language": "en", "theme": "dark",
}  # fmt: skip


def test_what_was_entered_is_saved(as_viewer: Client, viewer: User) -> None:
    answer = as_viewer.post("/profile", FIELDS)
    viewer.refresh_from_db()
    assert answer["Location"] == "/profile"
    assert {name: getattr(viewer, name) for name in FIELDS} == FIELDS


def test_the_page_says_that_it_is_saved(as_viewer: Client) -> None:
    answer = as_viewer.post("/profile", FIELDS, follow=True)
    assert "Your profile is saved." in answer.content.decode()


def test_nobody_else_is_changed(as_viewer: Client, operator: User) -> None:
    as_viewer.post("/profile", {**FIELDS, "id": operator.pk, "pk": operator.pk})
    operator.refresh_from_db()
    assert (operator.first_name, operator.time_zone, operator.theme) == ("", "", "")


def test_nobody_gives_themselves_more_rights(as_viewer: Client, viewer: User) -> None:
    more = {"is_superuser": "on", "is_staff": "on", "groups": "1", "username": "root", "password": "x"}
    before = viewer.password
    as_viewer.post("/profile", {**FIELDS, **more})
    viewer = User.objects.get(pk=viewer.pk)
    assert not viewer.is_superuser
    assert (viewer.roles, viewer.username, viewer.password) == (["ROLE_VIEWER"], "vera", before)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time_zone", "Mars/Olympus_Mons"), ("time_zone", "../../etc/passwd"), ("language", "tlh"), ("theme", "pink"),
        ("email", "no address"), ("first_name", "x" * 151), ("last_name", "a\0b"),
    ],
)  # fmt: skip
def test_what_is_not_possible_is_refused_with_the_field_named(
    as_viewer: Client, viewer: User, field: str, value: str
) -> None:
    answer = as_viewer.post("/profile", {**FIELDS, field: value})
    viewer.refresh_from_db()
    assert answer.status_code == 400
    assert list(answer.context["form"].errors) == [field]
    assert viewer.email == ""


def test_a_name_with_markup_is_shown_as_text(as_viewer: Client) -> None:
    as_viewer.post("/profile", {**FIELDS, "first_name": "<script>alert(1)</script>"})
    assert "<script>alert" not in as_viewer.get("/profile").content.decode()


def test_other_methods_are_refused(as_viewer: Client) -> None:
    assert as_viewer.put("/profile").status_code == 405
    assert as_viewer.delete("/profile").status_code == 405


def test_a_refused_change_does_not_show_in_the_page_around_it(as_viewer: Client, viewer: User) -> None:
    answer = as_viewer.post("/profile", {**FIELDS, "first_name": "Mallory", "theme": "light", "email": "wrong"})
    assert 'data-bs-theme="light"' not in answer.content.decode()
    assert "<h1>Mallory" not in answer.content.decode()


def test_times_are_shown_in_the_persons_zone(as_viewer: Client, viewer: User) -> None:
    job = Job.objects.create(type="backup", subject="plan:1")
    job.lines.create(number=1, at=datetime(2026, 1, 15, 23, 30, 5, tzinfo=UTC), message="hello")
    User.objects.filter(pk=viewer.pk).update(time_zone="Pacific/Auckland")
    html = as_viewer.get(f"/jobs/{job.pk}").content.decode()
    assert "12:30:05" in html
    assert "23:30:05" not in html.replace("23:30:05+00:00", "")


def test_the_zone_of_one_person_does_not_stay_for_the_next(as_viewer: Client, viewer: User, as_operator: Any) -> None:
    job = Job.objects.create(type="backup", subject="plan:1")
    job.lines.create(number=1, at=datetime(2026, 1, 15, 23, 30, 5, tzinfo=UTC), message="hello")
    User.objects.filter(pk=viewer.pk).update(time_zone="Pacific/Auckland")
    as_viewer.get(f"/jobs/{job.pk}")
    assert ">23:30:05<" in as_operator.get(f"/jobs/{job.pk}").content.decode()


def test_the_persons_language_goes_before_the_browsers(as_viewer: Client, viewer: User) -> None:
    User.objects.filter(pk=viewer.pk).update(language="fr")
    answer = as_viewer.get("/profile", headers={"Accept-Language": "en"})
    assert '<html lang="fr"' in answer.content.decode()
    assert answer["Content-Language"] == "fr"


def test_without_a_choice_the_browsers_language_is_taken(as_viewer: Client) -> None:
    assert '<html lang="fr"' in as_viewer.get("/profile", headers={"Accept-Language": "fr"}).content.decode()
    assert '<html lang="en"' in as_viewer.get("/profile").content.decode()


def test_the_theme_is_part_of_the_page(as_viewer: Client, viewer: User) -> None:
    User.objects.filter(pk=viewer.pk).update(theme="dark")
    assert 'data-bs-theme="dark"' in as_viewer.get("/profile").content.decode()
