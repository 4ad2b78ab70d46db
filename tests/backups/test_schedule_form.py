"""The schedule of a plan on its pages and in the API: taken in plain words, shown before it is saved."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from backups import schedule
from backups.models import Plan, Repository, Source
from servers.models import Server

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # a Monday
NO_TIME = "The windows leave no time at all: nothing would ever run."
NEVER = "This never comes: no month that it names has such a day."


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noon, and stays so."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)


def when(**changes: str) -> dict[str, str]:
    """What the fields of the schedule send: all of them, whichever is meant."""
    values = {
        "repeat": "daily", "hours": "4", "weekday": "1", "day": "1", "minute": "0", "at": "02:00", "cron": "",
        "time_zone": "Europe/Berlin", "blackout": "", "spread_seconds": "0",
    } | changes  # fmt: skip
    return {f"when-{name}": value for name, value in values.items()}


@pytest.fixture
def sent(repository: Repository) -> dict[str, Any]:
    return {
        "name": "home", "repository": repository.pk, "new_repository_in": "", "compression": "lz4",
        "upload_kib_per_second": "0", "retention": "", "enabled": "on", "files-paths": "/home",
    }  # fmt: skip


def add(client: Client, server: Server, sent: dict[str, Any]) -> Any:
    return client.post(f"/servers/{server.pk}/plans/add", sent)


def text_of(answer: Any) -> str:
    """What a person reads of a page or a piece of it."""
    return " ".join(re.sub(r"<[^>]+>", " ", answer.getvalue().decode()).split())


# --- The form ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "cron", "next_run_at"),
    [
        ({"repeat": "never"}, "", None),
        ({"repeat": "hourly", "minute": "15"}, "15 * * * *", "2026-03-02T12:15"),
        ({"repeat": "hours", "hours": "6", "minute": "5"}, "5 */6 * * *", "2026-03-02T17:05"),
        ({"repeat": "daily"}, "0 2 * * *", "2026-03-03T01:00"),
        ({"repeat": "weekly", "weekday": "0", "at": "23:30"}, "30 23 * * 0", "2026-03-08T22:30"),
        ({"repeat": "monthly", "day": "28"}, "0 2 28 * *", "2026-03-28T01:00"),
        ({"repeat": "monthly", "day": "L"}, "0 2 L * *", "2026-03-31T00:00"),
        ({"repeat": "cron", "cron": " 0  3 * * mon-fri"}, "0 3 * * mon-fri", "2026-03-03T02:00"),
        # What is not asked for may say what it wants.
        ({"repeat": "daily", "minute": "99", "cron": "nonsense", "hours": "5", "day": "31"}, "0 2 * * *",
         "2026-03-03T01:00"),
        ({"repeat": "daily", "blackout": "mon-fri 00:00-18:00"}, "0 2 * * *", "2026-03-02T17:00"),
    ],
)  # fmt: skip
def test_plain_words_become_the_plans_schedule(
    as_admin: Client, server: Server, sent: dict[str, Any], changes: dict[str, str], cron: str, next_run_at: str | None
) -> None:
    assert add(as_admin, server, {**sent, **when(**changes)}).status_code == 302
    plan = Plan.objects.get()
    expected = datetime.fromisoformat(next_run_at).replace(tzinfo=UTC) if next_run_at else None
    assert (plan.schedule, plan.next_run_at) == (cron, expected)


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"repeat": "fortnightly"}, "repeat", "not one of the available choices."),
        ({"repeat": "daily", "at": ""}, "at", "This field is required."),
        ({"repeat": "daily", "at": "25:00"}, "at", "Enter a valid time."),
        ({"repeat": "hourly", "minute": ""}, "minute", "This field is required."),
        ({"repeat": "hourly", "minute": "60"}, "minute", "less than or equal to 59."),
        ({"repeat": "hourly", "minute": "9" * 5000}, "minute", "Enter a whole number."),
        ({"repeat": "hours", "hours": "5"}, "hours", "not one of the available choices."),
        ({"repeat": "weekly", "weekday": "7"}, "weekday", "not one of the available choices."),
        ({"repeat": "monthly", "day": "31"}, "day", "not one of the available choices."),
        ({"repeat": "cron", "cron": ""}, "cron", "This field is required."),
        ({"repeat": "cron", "cron": "0 0 30 2 *"}, "cron", NEVER),
        ({"repeat": "cron", "cron": "0 0 0 1 1 *"}, "cron", "leave out the field in front."),
        ({"repeat": "cron", "cron": "0 " * 60}, "cron", "at most 100 characters"),
        ({"time_zone": "Mars/Base"}, "time_zone", "There is no time zone “Mars/Base”."),
        ({"time_zone": "../../etc/passwd"}, "time_zone", "There is no time zone"),
        ({"blackout": "00:00-24:00"}, "blackout", NO_TIME),
        ({"blackout": "at night"}, "blackout", "“at night” is no window"),
        ({"spread_seconds": "-1"}, "spread_seconds", "greater than or equal to 0."),
        ({"spread_seconds": "86400"}, "spread_seconds", "less than or equal to 21600."),
    ],
)
def test_bad_input_is_refused_in_words_at_the_field(
    as_admin: Client, server: Server, sent: dict[str, Any], changes: dict[str, str], field: str, sentence: str
) -> None:
    answer = add(as_admin, server, {**sent, **when(**changes)})
    assert answer.status_code == 400
    assert set(answer.context["forms"].when.errors) == {field}
    assert sentence in str(answer.context["forms"].when.errors[field])
    assert sentence in text_of(answer)
    assert not Plan.objects.exists()


def test_a_new_plan_is_suggested_daily_where_the_person_is(as_admin: Client, admin: User, server: Server) -> None:
    User.objects.filter(pk=admin.pk).update(time_zone="America/New_York")
    answer = as_admin.get(f"/servers/{server.pk}/plans/add")
    form = answer.context["forms"].when
    assert (form["repeat"].value(), form["at"].value().hour, form["time_zone"].value()) == (
        "daily", 2, "America/New_York",
    )  # fmt: skip
    assert "Next runs, daily at 02:00 Tue 2026-03-03 02:00 EST Wed 2026-03-04 02:00 EST" in text_of(answer)


@pytest.mark.parametrize(
    ("cron", "fields"),
    [
        ("", {"repeat": "never"}),
        ("5 */6 * * *", {"repeat": "hours", "hours": 6, "minute": 5}),
        ("30 23 * * 0", {"repeat": "weekly", "weekday": 0}),
        ("0 2 L * *", {"repeat": "monthly", "day": "L"}),
        ("0 3 * * mon-fri", {"repeat": "cron", "cron": "0 3 * * mon-fri"}),
    ],
)
def test_a_saved_schedule_is_shown_in_its_plain_words(
    as_admin: Client, plan: Plan, cron: str, fields: dict[str, Any]
) -> None:
    Plan.objects.update(schedule=cron)
    form = as_admin.get(f"/plans/{plan.pk}/edit").context["forms"].when
    assert {name: form[name].value() for name in fields} == fields


def test_saving_the_page_as_it_is_changes_nothing(as_admin: Client, plan: Plan, sent: dict[str, Any]) -> None:
    values = {
        "schedule": "5 3 * * mon-fri", "time_zone": "Asia/Tokyo", "blackout": "sat 08:00-09:00", "spread_seconds": 60,
    }  # fmt: skip
    Plan.objects.update(**values)
    form = as_admin.get(f"/plans/{plan.pk}/edit").context["forms"].when
    shown = {form[name].html_name: form[name].value() for name in form.fields}
    as_admin.post(f"/plans/{plan.pk}/edit", {**sent, **shown})
    assert Plan.objects.values(*values).get() == values
    assert not set(values) & set(AuditEntry.objects.get(action="plan.changed").detail["after"])


def test_a_change_is_audited_by_the_names_of_the_plan(as_admin: Client, plan: Plan, sent: dict[str, Any]) -> None:
    as_admin.post(f"/plans/{plan.pk}/edit", {**sent, "name": "files", **when(blackout="22:00-23:00")})
    fields = AuditEntry.objects.get(action="plan.changed").detail["after"]
    assert {"schedule", "time_zone", "blackout", "spread_seconds"} <= set(fields)


def test_pausing_takes_the_next_run_away_and_enabling_brings_it_back(
    as_admin: Client, plan: Plan, sent: dict[str, Any]
) -> None:
    as_admin.post(f"/plans/{plan.pk}/edit", {**sent, **when(), "enabled": ""})
    assert Plan.objects.get().next_run_at is None
    as_admin.post(f"/plans/{plan.pk}/edit", {**sent, **when()})
    assert Plan.objects.get().next_run_at == NOW + timedelta(hours=13)


def test_saving_the_page_keeps_what_the_scheduler_and_the_workers_wrote_meanwhile(
    as_admin: Client, plan: Plan, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A form that writes the whole row would start a run twice, or forget an archive."""
    taken = {"due_at": NOW, "last_good_at": NOW, "awaits_server": True}
    windows_of = schedule.windows_of

    def meanwhile(text: str) -> Any:
        Plan.objects.update(**taken)
        return windows_of(text)

    monkeypatch.setattr(schedule, "windows_of", meanwhile)  # while the form is checked
    as_admin.post(f"/plans/{plan.pk}/edit", {**sent, **when()})
    assert Plan.objects.values(*taken).get() == taken


# --- Before saving ----------------------------------------------------------------------------


def test_the_next_five_runs_are_shown_before_saving(as_admin: Client) -> None:
    answer = as_admin.get(
        "/plans/runs", when(repeat="weekly", weekday="5", blackout="00:00-06:30", spread_seconds="90")
    )
    assert text_of(answer) == (
        "Next runs, weekly on Friday at 02:00 Fri 2026-03-06 06:30 CET Fri 2026-03-13 06:30 CET "
        "Fri 2026-03-20 06:30 CET Fri 2026-03-27 06:30 CET Fri 2026-04-03 06:30 CEST "
        "Each up to 1 min 30 s later: the spread."
    )


def test_the_preview_of_no_schedule_says_so(as_admin: Client) -> None:
    assert text_of(as_admin.get("/plans/runs", when(repeat="never"))) == "It runs only when somebody starts it."


@pytest.mark.parametrize(
    "values", [when(repeat="cron", cron="0 0 30 2 *", blackout="x"), {"when-repeat": "<script>"}, {}]
)
def test_the_preview_takes_anything(as_admin: Client, values: dict[str, str]) -> None:
    answer = as_admin.get("/plans/runs", values)
    assert answer.status_code == 200
    assert b"<script" not in answer.content


def test_the_preview_says_what_is_wrong(as_admin: Client) -> None:
    answer = as_admin.get("/plans/runs", when(repeat="cron", cron="0 0 30 2 *", blackout="00:00-24:00"))
    assert text_of(answer) == f"Cron expression: {NEVER} Not during: {NO_TIME}"


def test_without_javascript_the_page_shows_the_runs_and_saves_nothing(
    as_admin: Client, server: Server, plan: Plan, sent: dict[str, Any]
) -> None:
    asked = {**sent, **when(at="04:00"), "runs": "1"}
    for answer in (add(as_admin, server, asked), as_admin.post(f"/plans/{plan.pk}/edit", asked)):
        assert answer.status_code == 200
        assert "Next runs, daily at 04:00 Tue 2026-03-03 04:00 CET" in text_of(answer)
    assert Plan.objects.get().schedule == ""


def test_the_preview_asks_for_what_the_form_asks_for(
    as_operator: Client, as_viewer: Client, as_admin: Client, client: Client
) -> None:
    assert as_operator.get("/plans/runs").status_code == 403
    assert as_viewer.get("/plans/runs").status_code == 403
    assert client.get("/plans/runs").status_code == 302
    assert as_admin.post("/plans/runs").status_code == 405


# --- The plan's page and the list ----------------------------------------------------------------


def test_the_page_of_a_plan_says_when_it_runs(as_viewer: Client, plan: Plan) -> None:
    Plan.objects.update(
        schedule="0 2 * * *",
        time_zone="Europe/Berlin",
        blackout="08:00-09:00\nsun 10:00-11:00",
        next_run_at=NOW + timedelta(hours=13),
    )
    shown = text_of(as_viewer.get(f"/plans/{plan.pk}"))
    assert (
        "daily at 02:00 Europe/Berlin Not during 08:00-09:00 sun 10:00-11:00 Next runs Tue 2026-03-03 02:00 CET"
        in shown
    )


def test_the_page_of_a_plan_without_a_schedule(as_viewer: Client, plan: Plan) -> None:
    shown = text_of(as_viewer.get(f"/plans/{plan.pk}"))
    assert "only by hand" in shown
    assert "Next runs" not in shown


def test_the_list_says_when_the_next_run_is(as_viewer: Client, plan: Plan) -> None:
    Plan.objects.update(schedule="0 2 * * *", next_run_at=NOW + timedelta(hours=13))
    assert "daily at 02:00 next in 13 h" in text_of(as_viewer.get("/plans"))


# --- The API ----------------------------------------------------------------------------------


@pytest.fixture
def body(repository: Repository) -> dict[str, Any]:
    source = Source.objects.create(name="home", server=repository.server, parameters={"paths": ["/home"]})
    return {"name": "home", "server": repository.server_id, "repository": repository.pk, "sources": [source.pk]}


def test_the_api_takes_a_schedule_and_shows_the_next_runs(api_admin: APIClient, body: dict[str, Any]) -> None:
    answer = api_admin.post(
        "/api/plans",
        {
            **body,
            "schedule": " 0  2 * * *",
            "time_zone": "Europe/Berlin",
            "blackout": "sun 00:00-24:00",
            "spread_seconds": 0,
        },
    )
    assert answer.status_code == 201
    shown = answer.json()
    assert (shown["schedule"], shown["time_zone"], shown["blackout"], shown["spread_seconds"]) == (
        "0 2 * * *", "Europe/Berlin", "sun 00:00-24:00", 0,
    )  # fmt: skip
    assert shown["next_run_at"] == "2026-03-03T01:00:00Z"
    assert shown["next_runs"] == [
        "2026-03-03T01:00:00Z", "2026-03-04T01:00:00Z", "2026-03-05T01:00:00Z", "2026-03-06T01:00:00Z",
        "2026-03-07T01:00:00Z",
    ]  # fmt: skip
    assert api_admin.get(f"/api/plans/{shown['id']}").json() == shown


def test_the_api_without_a_schedule(api_admin: APIClient, admin: User, body: dict[str, Any]) -> None:
    User.objects.filter(pk=admin.pk).update(time_zone="Asia/Tokyo")
    shown = api_admin.post("/api/plans", body).json()
    assert (shown["schedule"], shown["next_run_at"], shown["next_runs"]) == ("", None, [])
    assert (shown["time_zone"], shown["spread_seconds"]) == ("Asia/Tokyo", 300)


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"schedule": "0 0 30 2 *"}, "schedule", NEVER),
        ({"schedule": "@daily"}, "schedule", "A cron expression has five fields"),
        ({"schedule": "0 " * 60}, "schedule", "100 characters"),
        ({"schedule": None}, "schedule", "null"),
        ({"time_zone": "Mars/Base"}, "time_zone", "There is no time zone “Mars/Base”."),
        ({"time_zone": ""}, "time_zone", "blank"),
        ({"blackout": "00:00-24:00"}, "blackout", NO_TIME),
        ({"blackout": "x" * 3000}, "blackout", "2000 characters"),
        ({"spread_seconds": -1}, "spread_seconds", "greater than or equal to 0."),
        ({"spread_seconds": 21601}, "spread_seconds", "less than or equal to 21600."),
    ],
)
def test_the_api_refuses_in_words_at_the_field(
    api_admin: APIClient, plan: Plan, body: dict[str, Any], changes: dict[str, Any], field: str, sentence: str
) -> None:
    for answer in (
        api_admin.post("/api/plans", {**body, **changes}),
        api_admin.patch(f"/api/plans/{plan.pk}", changes),
    ):
        assert answer.status_code == 400
        assert set(answer.json()["error"]["fields"]) == {field}
        assert sentence in str(answer.json()["error"]["fields"][field])


def test_a_patch_reschedules(api_admin: APIClient, plan: Plan) -> None:
    one = f"/api/plans/{plan.pk}"
    assert (
        api_admin.patch(one, {"schedule": "0 4 * * *", "spread_seconds": 0}).json()["next_run_at"]
        == "2026-03-03T04:00:00Z"
    )
    assert api_admin.patch(one, {"enabled": False}).json()["next_run_at"] is None
    assert api_admin.patch(one, {"enabled": True}).json()["next_run_at"] == "2026-03-03T04:00:00Z"
    assert api_admin.patch(one, {"schedule": ""}).json()["next_runs"] == []


def test_what_the_scheduler_keeps_cannot_be_sent(api_admin: APIClient, plan: Plan) -> None:
    api_admin.patch(f"/api/plans/{plan.pk}", {"next_run_at": "2026-01-01T00:00:00Z", "due_at": "2026-01-01T00:00:00Z"})
    plan.refresh_from_db()
    assert (plan.next_run_at, plan.due_at) == (None, None)


def test_many_plans_take_as_many_queries_as_one(
    api_viewer: APIClient, plan: Plan, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    Plan.objects.update(schedule="0 2 * * *", next_run_at=NOW)
    with CaptureQueriesContext(connection) as for_one:
        api_viewer.get("/api/plans")
    for number in range(10):
        Plan.objects.create(
            name=f"p{number}", server=plan.server, repository=plan.repository, schedule="0 2 * * *", next_run_at=NOW
        )
    with django_assert_num_queries(len(for_one)):
        assert len(api_viewer.get("/api/plans").json()["results"][0]["next_runs"]) == 5


def test_a_row_that_makes_no_sense_breaks_no_page(as_viewer: Client, api_viewer: APIClient, plan: Plan) -> None:
    Plan.objects.update(schedule="<b>", next_run_at=NOW)
    assert "&lt;b&gt;" in text_of(as_viewer.get(f"/plans/{plan.pk}"))
    assert api_viewer.get(f"/api/plans/{plan.pk}").json()["next_runs"] == []
