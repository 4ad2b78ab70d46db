"""The page with the settings: what it shows, takes and refuses; and where the settings of site and new plans count.

Over the API and in the database: test_live_settings.py. Mail: tests/jobs/test_mail.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from constance.models import Constance
from cryptography.fernet import Fernet
from django.core.checks import run_checks
from django.test import Client
from django.utils import translation
from rest_framework.test import APIClient

from accounts import encryption
from accounts.models import AuditEntry, User
from backups.maintenance import note_borg
from backups.models import Plan, Repository, RetentionPolicy, Source
from jobs import queue
from jobs.config import config, fields
from phpborg import about
from phpborg.forms import LABELS, SettingsForm
from servers.models import Server
from tests.accounts.test_meantime import fields_of
from tests.phpborg.test_api_contract import SETTINGS

pytestmark = pytest.mark.django_db

Live = Callable[..., None]
PATH = "/settings"


@pytest.fixture
def page(as_admin: Client) -> Callable[[], str]:
    def look() -> str:
        config.forget()  # the test's transaction is never committed
        return as_admin.get(PATH).content.decode()

    return look


@pytest.fixture
def save(as_admin: Client, page: Callable[[], str]) -> Callable[..., Any]:
    """The form as it is shown, with some fields filled in otherwise."""

    def send(**changes: Any) -> Any:
        answer = as_admin.post(PATH, {**fields_of(page()), **changes})
        config.forget()
        return answer

    return send


def stored() -> set[str]:
    return set(Constance.objects.values_list("key", flat=True))


# --- The form ---------------------------------------------------------------------------------------


def test_each_setting_has_its_place_its_label_its_sentence_and_its_bounds(page: Callable[[], str]) -> None:
    """Red when one stands in no section: constance's own check."""
    assert [check for check in run_checks() if check.id and check.id.startswith("constance")] == []
    assert set(LABELS) == set(fields()) == {*SETTINGS, "smtp_password"}
    text = page()
    for name, field in fields().items():
        assert f'name="{name}"' in text
        assert str(field.help_text).replace("'", "&#x27;") in text
    assert "0 to 36,500 days. Default: 365." in text
    assert "1 to 65,535." in text


def test_only_what_was_changed_is_stored_and_said(save: Callable[..., Any], page: Callable[[], str]) -> None:
    """Red when all that a form has is stored: the environment would count for nothing after the first save."""
    answer = save(job_keep_days="30", job_retry_seconds="5, 60")
    assert (answer.status_code, answer["Location"]) == (302, PATH)
    assert stored() == {"JOB_KEEP_DAYS", "JOB_RETRY_SECONDS"}
    assert (config.JOB_KEEP_DAYS, config.JOB_RETRY_SECONDS) == (30, [5, 60])
    assert AuditEntry.objects.filter(action="settings.changed").get().username == "ada"
    assert "The settings are saved" in page()


def test_a_set_one_goes_back_to_the_default(save: Callable[..., Any], page: Callable[[], str]) -> None:
    """Whatever stands in its field. Red without `unset`."""
    save(job_keep_days="30", log_keep_days="7")
    assert page().count('name="unset"') == 2
    assert "Keep ended jobs for: back to the default when saving" in page()
    assert save(unset=["job_keep_days"], job_keep_days="nonsense").status_code == 302
    assert (stored(), config.JOB_KEEP_DAYS) == ({"LOG_KEEP_DAYS"}, 365)


def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost_or_stored(save: Callable[..., Any]) -> None:
    answer = save(pool_low_percent="101", site_url="https://elsewhere.example.org", job_keep_days="31")
    text = answer.content.decode()
    assert answer.status_code == 400
    assert "Ensure this value is less than or equal to 100." in text
    assert "phpBorg does not answer to “elsewhere.example.org”" in text
    assert 'name="job_keep_days" value="31"' in text
    assert 'value="https://elsewhere.example.org"' in text
    assert "Nothing is saved yet" in text
    assert stored() == set()


def test_of_two_people_the_second_is_told_what_the_first_saved(as_admin: Client, live: Live) -> None:
    """Red without Meantime."""
    shown = fields_of(as_admin.get(PATH).content.decode())
    live(JOB_KEEP_DAYS=30)
    answer = as_admin.post(PATH, {**shown, "job_keep_days": "40"})
    assert answer.status_code == 400
    assert "Meanwhile somebody saved “30” here." in answer.content.decode()
    assert config.read()["job_keep_days"] == 30


def test_a_password_is_kept_replaced_and_forgotten_and_never_shown(
    save: Callable[..., Any], page: Callable[[], str]
) -> None:
    """Red with a PasswordInput that renders its value; red when an empty field is an empty password."""
    save(smtp_password="correct horse")
    assert config.SMTP_PASSWORD.open() == "correct horse"
    assert "correct horse" not in page()
    assert "One is kept." in page()
    save(job_keep_days="31")
    assert config.SMTP_PASSWORD.open() == "correct horse"
    refused = save(smtp_password="zzz zzz", job_keep_days="-1").content.decode()
    assert "zzz zzz" not in refused
    assert "Enter it again" in refused
    save(unset=["smtp_password"])
    assert not config.SMTP_PASSWORD
    assert "One is kept." not in page()


def test_a_password_goes_to_no_other_server_than_it_was_entered_for(save: Callable[..., Any], live: Live) -> None:
    """Red without the look: whoever may change settings would read it by a mail server of their own."""
    live(SMTP_HOST="mail.example.org", SMTP_PASSWORD="correct horse", MAIL_SENDER="borg@example.org")
    for change in ({"smtp_host": "mail.example.com"}, {"smtp_port": "25"}, {"smtp_tls": "none"}):
        answer = save(**change)
        assert answer.status_code == 400
        assert "it would go to another mail server" in answer.content.decode()
    assert save(smtp_user="borg").status_code == 302
    assert save(smtp_host="mail.example.com", smtp_password="another one").status_code == 302
    assert save(smtp_host="mail.example.net", unset=["smtp_password"]).status_code == 302
    assert (config.SMTP_HOST, bool(config.SMTP_PASSWORD)) == ("mail.example.net", False)


def test_the_form_is_in_french_for_who_wants_it(as_admin: Client, admin: User) -> None:
    User.objects.update(language="fr")
    answer = as_admin.post(PATH, {**fields_of(as_admin.get(PATH).content.decode()), "job_retry_seconds": "60,x"})
    text = answer.content.decode()
    assert "Combien de jours les journaux des tâches terminées sont conservés. 0 : pour toujours." in text
    assert "Saisissez un nombre entier." in text


# --- What the environment decides -------------------------------------------------------------------


def test_what_the_environment_decides_is_shown_without_its_secrets(
    page: Callable[[], str], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when a URL is shown as it is."""
    settings.REDIS_URL = "rediss://user:hush-hush@redis.example.org:6380/2?password=hush-hush"
    settings.REDIS_IS_EMBEDDED = False
    settings.METRICS_TOKEN = "hush-hush-hush-hush"
    monkeypatch.setattr(
        "phpborg.about.connection.settings_dict",
        {"HOST": "db.example.org", "PORT": "3307", "NAME": "phpborg", "USER": "borg", "PASSWORD": "hush-hush"},
    )
    monkeypatch.setattr("phpborg.about.connection.vendor", "mysql")
    with translation.override("en"):
        text = "\n".join(fact.value for fact in about.environment())
    assert "rediss://redis.example.org:6380/2\n" in text
    assert "phpborg at db.example.org:3307 as borg" in text
    assert "with a token" in text
    assert "hush" not in text
    monkeypatch.undo()
    shown = page()
    for secret in (settings.SECRET_KEY, settings.JWT_KEY, *settings.ENCRYPTION_KEYS):
        assert secret not in shown


def test_the_page_says_whether_the_keys_read_what_is_stored(page: Callable[[], str], settings: Any) -> None:
    """Red when a wrong key is an error 500."""
    encryption.verify()
    assert "1 key; it reads what is stored" in page()
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode(), Fernet.generate_key().decode()]
    assert "The encryption key does not fit the database" in page()
    settings.ENCRYPTION_KEYS = ["broken"]
    assert "ENCRYPTION_KEYS must be one or more Fernet keys" in page()


def test_the_page_has_the_borg_of_the_workers_that_live(page: Callable[[], str], monkeypatch: Any) -> None:
    """Red without `note_borg`; red when machines are shown that are gone."""

    class Alive:
        hostname = "worker-1"
        last_heartbeat = datetime.now(UTC)

    monkeypatch.setattr("jobs.queue.Worker.all", lambda **_: [Alive])
    queue.note_borg("worker-1", "borg 1.4.5")
    queue.note_borg("gone", "borg 1.2.4")
    assert "borg 1.4.5" in page()
    assert "borg 1.2.4" not in page()


def test_a_worker_says_at_its_start_which_borg_it_has(settings: Any, tmp_path: Any, monkeypatch: Any) -> None:
    program = tmp_path / "borg"
    program.write_text("#!/bin/sh\necho borg 1.4.99\n")
    program.chmod(0o755)
    settings.BORG_PATH = str(program)
    note_borg()
    [said] = queue.connection().hgetall(queue.BORGS_KEY).values()
    assert said == b"borg 1.4.99"


def test_a_borg_that_hangs_holds_up_no_worker(settings: Any, tmp_path: Any, monkeypatch: Any) -> None:
    """Red without an end to it: the worker would never take a job."""
    program = tmp_path / "borg"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    settings.BORG_PATH = str(program)
    monkeypatch.setattr("backups.maintenance.ANSWERS_WITHIN_SECONDS", 0.1)
    note_borg()
    [said] = queue.connection().hgetall(queue.BORGS_KEY).values()
    assert said == f"{program} says nothing.".encode()


def test_without_redis_the_page_is_there(page: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OSError("Connection refused")

    monkeypatch.setattr("phpborg.about.queue.borgs_of_workers", away)
    assert "not known: Redis is away" in page()


# --- The site ---------------------------------------------------------------------------------------


def test_times_are_shown_in_the_site_s_zone_to_whoever_has_chosen_none(
    as_admin: Client, admin: User, live: Live
) -> None:
    """Red without SiteTimeZoneMiddleware."""
    shown = r'name="when-time_zone".*?<option value="([^"]+)" selected'
    server = Server.objects.create(name="db-1", address="192.0.2.8")

    def zone() -> str:
        text = as_admin.get(f"/servers/{server.pk}/plans/add").content.decode()
        found = re.search(shown, text, re.DOTALL)
        assert found
        return found[1]

    assert zone() == "UTC"
    live(TIME_ZONE="Asia/Tokyo")
    assert zone() == "Asia/Tokyo"
    User.objects.update(time_zone="Europe/Paris")
    assert zone() == "Europe/Paris"


def test_who_is_not_signed_in_costs_no_look_at_the_settings(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """`/healthz` must answer when the database does not."""

    def breaks() -> None:
        raise AssertionError("asked")

    monkeypatch.setattr("jobs.config._stored", breaks)
    config.forget()
    assert client.get("/healthz").status_code == 200


# --- New plans --------------------------------------------------------------------------------------


def test_the_form_of_a_new_plan_shows_what_the_settings_say(as_admin: Client, server: Server, live: Live) -> None:
    RetentionPolicy.objects.all().delete()
    for name in ("Alpha", "Long"):
        RetentionPolicy.objects.create(name=name)
    values = fields_of(as_admin.get(f"/servers/{server.pk}/plans/add").content.decode())
    alpha, long = RetentionPolicy.objects.order_by("name")
    assert (values["compression"], values["when-repeat"], values["retention"]) == ("lz4", "daily", str(alpha.pk))
    live(
        PLAN_COMPRESSION="zstd,9", PLAN_SCHEDULE="30 4 * * 1", PLAN_TIME_ZONE="Asia/Tokyo", PLAN_RETENTION="Long",
        PLAN_PROOF_DAYS=7, PLAN_PROOF_FILES=50,
    )  # fmt: skip
    values = fields_of(as_admin.get(f"/servers/{server.pk}/plans/add").content.decode())
    names = ("compression", "retention", "proof_days", "proof_files", "when-repeat", "when-at", "when-time_zone")
    expected = ["zstd,9", str(long.pk), "7", "50", "weekly", "04:30", "Asia/Tokyo"]
    assert [values[name] for name in names] == expected


def test_the_api_fills_in_what_a_program_leaves_out_but_neither_when_it_runs_nor_what_is_deleted(
    api_admin: APIClient, server: Server, repository: Repository, live: Live
) -> None:
    """Red without `usual`; red when a program that says nothing of retention gets archives deleted."""
    source = Source.objects.create(name="etc", server=server, parameters={"paths": ["/etc"]})
    body = {"server": server.pk, "repository": repository.pk, "sources": [source.pk]}
    live(PLAN_COMPRESSION="zstd,9", PLAN_TIME_ZONE="Asia/Tokyo", PLAN_PROOF_DAYS=7, PLAN_RETENTION="Standard")
    assert api_admin.post("/api/plans", {**body, "name": "a"}).status_code == 201
    plan = Plan.objects.get(name="a")
    found = (plan.compression, plan.time_zone, plan.proof_days, plan.schedule, plan.retention)
    assert found == ("zstd,9", "Asia/Tokyo", 7, "", None)
    assert api_admin.post("/api/plans", {**body, "name": "b", "compression": "none"}).json()["compression"] == "none"


def test_the_policy_of_new_plans_stays_the_one_when_it_is_renamed_and_none_when_it_is_gone(
    as_admin: Client, server: Server, live: Live
) -> None:
    """Red when the setting is left to a name that nobody has."""
    RetentionPolicy.objects.all().delete()
    RetentionPolicy.objects.create(name="Alpha")
    policy = RetentionPolicy.objects.create(name="Long")
    live(PLAN_RETENTION="Long")
    address = f"/retention-policies/{policy.pk}/edit"
    sent = fields_of(as_admin.get(address).content.decode()) | {"name": "Longer"}
    assert as_admin.post(address, sent).status_code == 302
    assert config.read()["plan_retention"] == "Longer"
    config.forget()
    policy.delete()
    values = fields_of(as_admin.get(f"/servers/{server.pk}/plans/add").content.decode())
    assert values["retention"] == str(RetentionPolicy.objects.get().pk)


def test_a_form_of_nothing_but_defaults_is_right() -> None:
    assert SettingsForm({**SETTINGS, "job_retry_seconds": "60, 300,900"}).is_valid()
