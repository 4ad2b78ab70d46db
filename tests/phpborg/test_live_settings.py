"""/api/settings: what can be changed while everything runs, where it counts, and what it survives.

In force in processes that run already: tests/faults/test_live_settings.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import Any

import pytest
from constance.codecs import dumps
from constance.models import Constance
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import AuditEntry
from backups.maintenance import compact_repositories
from backups.models import Repository, StoragePool
from jobs import periodic
from jobs.config import Config, config, defaults
from jobs.log import JobLog
from jobs.models import Job, LogLine
from jobs.runner import pause_after
from tests.jobs.conftest import row, running
from tests.phpborg.test_api_contract import SETTINGS

pytestmark = pytest.mark.django_db

GB = 10**9
PATH = "/api/settings"
AS_THEY_ARE = {**SETTINGS, "pool_low_percent": 0, "pool_low_gb": 0}  # by tests/settings.py
Put = Callable[..., Any]


@pytest.fixture
def put(api_admin: APIClient, django_capture_on_commit_callbacks: Any) -> Put:
    """All settings, some of them changed, as a program sends them; committed."""

    def send(**changes: Any) -> Any:
        with django_capture_on_commit_callbacks(execute=True):
            return api_admin.put(PATH, {**AS_THEY_ARE, **changes})

    return send


def fields(answer: Any) -> dict[str, list[str]]:
    assert answer.status_code == 400, answer.content
    found: dict[str, list[str]] = answer.json()["error"]["fields"]
    return found


def stored() -> dict[str, str]:
    return dict(Constance.objects.values_list("key", "value"))


# --- What is shown and taken ------------------------------------------------------------------------


def test_without_any_change_the_environment_counts_and_nothing_is_stored(api_admin: APIClient) -> None:
    """Red with constance's own `config`: what it reads it stores, and the environment counts no more."""
    answer = api_admin.get(PATH)
    assert answer.json() == {**AS_THEY_ARE, "smtp_password_set": False}
    assert [getattr(config, name) for name in settings.CONSTANCE_CONFIG] == list(defaults().values())
    assert stored() == {}


def test_a_put_answers_with_what_is_in_force_and_so_does_every_get(put: Put, api_admin: APIClient) -> None:
    wanted = {**AS_THEY_ARE, "smtp_password_set": False, "job_keep_days": 30, "job_retry_seconds": [5]}
    assert put(job_keep_days=30, job_retry_seconds=[5]).json() == api_admin.get(PATH).json() == wanted
    assert (config.JOB_KEEP_DAYS, config.JOB_RETRY_SECONDS) == (30, [5])


def test_what_is_sent_back_as_it_was_goes_on_following_the_environment(put: Put) -> None:
    """Red when a PUT stores everything: the variables would count for nothing after the first one."""
    put(job_keep_days=30)
    assert set(stored()) == {"JOB_KEEP_DAYS"}
    put()  # as the environment has it, but said: so it stays
    assert stored() == {"JOB_KEEP_DAYS": dumps(365)}


def test_a_get_shows_what_another_process_has_just_changed(api_admin: APIClient) -> None:
    """Red when a GET shows what is kept for a second."""
    assert config.JOB_KEEP_DAYS == 365
    Constance.objects.create(key="JOB_KEEP_DAYS", value=dumps(7))
    assert api_admin.get(PATH).json()["job_keep_days"] == 7


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("job_keep_days", -1, "Ensure this value is greater than or equal to 0."),
        ("job_keep_days", 36_501, "Ensure this value is less than or equal to 36500."),
        ("log_keep_days", "", "This must be a whole number."),
        ("site_url", "ftp://localhost", "Enter an address as https://backup.example.org"),
        ("site_url", "http://localhost/backup", "Enter an address as https://backup.example.org"),
        ("site_url", "http://a:b@localhost", "Enter an address as https://backup.example.org"),
        ("site_url", "http://localhost:x", "Enter an address as https://backup.example.org"),
        ("site_url", "http://[::1", "Enter an address as https://backup.example.org"),
        ("site_url", "https://elsewhere.example.org", "phpBorg does not answer to “elsewhere.example.org”"),
        ("time_zone", "Mars/Olympus", "There is no time zone “Mars/Olympus”."),
        ("time_zone", "", "This field is required."),
        ("plan_time_zone", "../etc/passwd", "There is no time zone"),
        ("plan_schedule", "61 * * * *", "The first field is the minute"),
        ("plan_retention", "nobody's", "There is no retention policy “nobody's”."),
        ("plan_compression", "brotli", "Enter none, lz4, zstd, zlib or lzma"),
        ("plan_proof_days", 3651, "Ensure this value is less than or equal to 3650."),
        ("smtp_host", "mail.example.org:25", "Enter a host name or an IP address, nothing else."),
        ("smtp_host", "mail.example.org", {"mail_sender": ["Mails need an address that they come from."]}),
        ("smtp_port", 0, "Ensure this value is greater than or equal to 1."),
        ("smtp_tls", "ssl", "Select a valid choice."),
        ("smtp_user", "jörg", "Only letters, digits and signs of ASCII go over SMTP."),
        ("smtp_password", "pass\r\nword", "Only letters, digits and signs of ASCII go over SMTP."),
        ("smtp_timeout_seconds", 61, "Ensure this value is less than or equal to 60."),
        ("mail_sender", "phpBorg <a@example.org>", "Enter a valid email address."),
        ("compact_after_days", 2**70, "Ensure this value is less than or equal to 36500."),
        ("check_max_seconds", -1, "Ensure this value is greater than or equal to 0."),
        ("pool_low_percent", 101, "Ensure this value is less than or equal to 100."),
        ("pool_low_gb", -5, "Ensure this value is greater than or equal to 0."),
        ("job_log_lines", 99, "Ensure this value is greater than or equal to 100."),
        ("job_retry_seconds", [], "Enter at least one number."),
        ("job_retry_seconds", [60, -1], "Ensure this value is greater than or equal to 0."),
        ("job_retry_seconds", [60, 604_801], "Ensure this value is less than or equal to 604800."),
        ("job_retry_seconds", [1] * 21, "These are more than 20 numbers."),
        ("job_retry_seconds", ["60"], "This must be a list of whole numbers."),
        ("job_retry_seconds", [True], "This must be a list of whole numbers."),
        ("job_retry_seconds", [None], "This must be a list of whole numbers."),
        ("job_retry_seconds", "60,300", "This must be a list of whole numbers."),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name_and_nothing_is_changed(
    put: Put, name: str, value: Any, sentence: str | dict[str, list[str]]
) -> None:
    """Red without bounds; red when what fits is stored all the same."""
    changes = {"job_log_lines": 500, "pool_low_gb": 9, name: value}
    told = fields(put(**changes))
    if isinstance(sentence, str):
        assert (list(told), len(told[name])) == ([name], 1)
        assert told[name][0].startswith(sentence)
    else:
        assert told == sentence
    assert (stored(), AuditEntry.objects.filter(action="settings.changed").count()) == ({}, 0)


@pytest.mark.parametrize("missing", ["log_keep_days", "smtp_host", "plan_schedule", "time_zone"])
def test_every_setting_must_be_there(api_admin: APIClient, missing: str) -> None:
    """Red when a PUT takes what is missing for what it was, that would be a PATCH; or, as forms do, for empty."""
    body = {name: value for name, value in SETTINGS.items() if name != missing}
    assert fields(api_admin.put(PATH, body)) == {missing: ["This field is required."]}


def test_several_mistakes_are_told_at_once(put: Put) -> None:
    assert set(fields(put(job_keep_days=-1, pool_low_gb=-1))) == {"job_keep_days", "pool_low_gb"}


def test_the_schema_has_the_bounds_and_a_sentence_for_each(api_admin: APIClient) -> None:
    """Red without `get_fields`; red when the bounds stand anywhere but in phpborg/settings.py."""
    schema = api_admin.get("/api/schema", headers={"Accept": "application/json"}).json()
    for name, secret in (("Config", {"smtp_password_set"}), ("ConfigChangeRequest", {"smtp_password"})):
        described = schema["components"]["schemas"][name]
        assert set(described["properties"]) == {*SETTINGS, *secret}
        assert set(described["required"]) - secret == set(SETTINGS)
        assert all(one["description"] for one in described["properties"].values())
        percent, pauses = (described["properties"][key] for key in ("pool_low_percent", "job_retry_seconds"))
        null = ["null"] if name == "ConfigChangeRequest" else []  # only there: what is null follows the environment
        assert (percent["minimum"], percent["maximum"]) == (0, 100)
        assert (pauses["minItems"], pauses["maxItems"]) == (1, 20)
        for one, kind in ((percent, "integer"), (pauses, "array")):
            assert one["type"] == ([kind, *null] if null else kind)
        assert (pauses["items"]["minimum"], pauses["items"]["maximum"]) == (0, 604_800)


def test_null_lets_a_setting_follow_the_environment_again(put: Put) -> None:
    """Red when null is as if it were not there: what was set once could never be taken back."""
    put(job_keep_days=365, plan_compression="zstd", smtp_password="correct horse")
    put(job_keep_days=30, plan_compression="zstd")
    assert set(stored()) == {"JOB_KEEP_DAYS", "PLAN_COMPRESSION", "SMTP_PASSWORD"}
    answer = put(job_keep_days=None, plan_compression=None, smtp_password=None)
    assert answer.json() == {**AS_THEY_ARE, "smtp_password_set": False}
    assert stored() == {}
    entry = AuditEntry.objects.filter(action="settings.changed").latest("pk")
    assert entry.detail["unset"] == ["job_keep_days", "plan_compression", "smtp_password"]
    assert entry.detail["before"] == {"job_keep_days": 30, "plan_compression": "zstd", "smtp_password": "..."}


def test_a_password_of_the_environment_is_no_change(put: Put, settings: Any) -> None:
    """Red when it is encrypted once for what was and once for what is: no two such texts are the same."""
    _, *rest = settings.CONSTANCE_CONFIG["SMTP_PASSWORD"]
    settings.CONSTANCE_CONFIG = {**settings.CONSTANCE_CONFIG, "SMTP_PASSWORD": ("of the environment", *rest)}
    put(smtp_password=None)
    assert not AuditEntry.objects.filter(action="settings.changed").exists()


def test_a_put_takes_back_what_a_get_has_shown(put: Put, api_admin: APIClient) -> None:
    """Red when `smtp_password_set` is no parameter; red when a password that was not sent is forgotten."""
    put(smtp_password="correct horse")
    shown = api_admin.get(PATH).json()
    assert shown["smtp_password_set"] is True
    assert api_admin.put(PATH, shown).json() == shown
    assert config.SMTP_PASSWORD.open() == "correct horse"


def test_a_secret_is_in_no_answer_no_row_and_no_trail(put: Put, api_admin: APIClient) -> None:
    """Red when it is stored as the others are."""
    answers = [put(smtp_password="correct horse"), put(smtp_password="correct horse 2"), api_admin.get(PATH)]
    rows = [*Constance.objects.values_list("value", flat=True), *AuditEntry.objects.values_list("detail", flat=True)]
    assert "correct horse" not in repr([answer.content for answer in answers]) + repr(rows) + repr(config.read())
    assert AuditEntry.objects.filter(action="settings.changed").count() == 2


@pytest.mark.parametrize("text", ["{", dumps(7), dumps(None), dumps({})])
def test_a_secret_that_is_damaged_is_none_and_the_log_does_not_show_it(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    Constance.objects.create(key="SMTP_PASSWORD", value=text)
    assert not Config().SMTP_PASSWORD
    assert "The setting SMTP_PASSWORD cannot be what is stored" in caplog.text


# --- Where each counts ------------------------------------------------------------------------------
# CHECK_MAX_SECONDS: tests/faults/test_repositories.py, with a borg that it stops.


@pytest.mark.parametrize("changes", [{"pool_low_percent": 20}, {"pool_low_gb": 16}])
def test_a_pool_is_nearly_full_when_the_settings_say_so(
    put: Put, api_admin: APIClient, pool: StoragePool, changes: dict[str, int]
) -> None:
    """Red when `is_nearly_full` reads the environment."""
    StoragePool.objects.update(free_bytes=15 * GB, total_bytes=100 * GB, checked_at=timezone.now())

    def state() -> str:
        return str(api_admin.get("/api/stats/dashboard").json()["pools"][0]["state"])

    assert state() == "protected"
    put(**changes)
    assert state() == "attention"


def test_the_pause_before_the_next_attempt(put: Put) -> None:
    put(job_retry_seconds=[7, 3600])
    assert [pause_after(attempts) for attempts in (1, 2, 3)] == [7, 3600, 3600]


def test_how_much_is_kept_of_a_log(put: Put) -> None:
    put(job_log_lines=101)
    assert JobLog(running()).half == 50


def test_how_long_jobs_and_logs_are_kept(put: Put) -> None:
    put(job_keep_days=10, log_keep_days=5)
    for days in (11, 9, 6, 4):
        at = timezone.now() - timedelta(days=days)
        job = row(status="completed", created_at=at, completed_at=at)
        LogLine.objects.create(job=job, number=1, at=at, message="x")
    periodic.forget()
    assert (Job.objects.count(), LogLine.objects.count()) == (3, 1)


def test_when_room_is_given_back(put: Put, repository: Repository) -> None:
    now = timezone.now()
    Repository.objects.update(deleted_at=now - timedelta(days=2), checked_at=now)
    assert compact_repositories() == 0
    put(compact_after_days=1)
    assert compact_repositories() == 1


def test_a_list_of_many_pools_asks_for_the_settings_once(api_admin: APIClient, django_assert_num_queries: Any) -> None:
    """Red with constance's own `config`: two queries for each pool."""
    for number in range(30):
        StoragePool.objects.create(
            name=f"p{number}", path=f"/srv/{number}", free_bytes=GB, total_bytes=9 * GB, checked_at=timezone.now()
        )
    pools = list(StoragePool.objects.all())
    with django_assert_num_queries(1):
        assert {pool.state_shown for pool in pools} == {"protected"}


# --- The audit trail --------------------------------------------------------------------------------


def test_a_change_is_in_the_audit_trail_with_before_and_after(put: Put) -> None:
    """Red without `audit.record`."""
    put(job_keep_days=30)
    put(job_keep_days=30)  # changes nothing
    put(job_keep_days=30, job_retry_seconds=[1], pool_low_gb=9)
    found = AuditEntry.objects.filter(action="settings.changed").order_by("pk")
    assert [(entry.username, entry.detail) for entry in found] == [
        ("ada", {"before": {"job_keep_days": 365}, "after": {"job_keep_days": 30}}),
        ("ada", {
            "before": {"job_retry_seconds": [60, 300, 900], "pool_low_gb": 0},
            "after": {"job_retry_seconds": [1], "pool_low_gb": 9},
        }),
    ]  # fmt: skip


def test_without_its_entry_a_change_is_none(api_admin: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when they are two transactions."""

    def breaks(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("The disk is full.")

    monkeypatch.setattr("jobs.config.audit.record", breaks)
    api_admin.raise_request_exception = False
    assert api_admin.put(PATH, {**SETTINGS, "job_keep_days": 1}).status_code == 500
    assert (stored(), config.read()["job_keep_days"]) == ({}, 365)


def test_constance_s_own_page_and_command_are_no_way_around_it(as_admin: Client) -> None:
    """Red without `unregister`, and without the command of the same name."""
    assert as_admin.get("/admin/constance/config/").status_code == 404
    with pytest.raises(CommandError, match="PUT /api/settings"):
        call_command("constance", "set", "JOB_KEEP_DAYS", "1")


# --- What is kept in a process ----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_this_process_knows_a_change_at_once_and_only_when_it_is_committed(api_admin: APIClient) -> None:
    """Red without `forget` on commit: what is kept would count for another second, here for an hour."""
    assert config.JOB_KEEP_DAYS == 365
    with transaction.atomic():
        assert api_admin.put(PATH, {**SETTINGS, "job_keep_days": 1}).status_code == 200
        assert config.JOB_KEEP_DAYS == 365
        transaction.set_rollback(True)
    assert config.JOB_KEEP_DAYS == 365
    api_admin.put(PATH, {**SETTINGS, "job_keep_days": 1})
    assert config.JOB_KEEP_DAYS == 1


def test_what_is_kept_is_read_anew_when_its_second_is_over(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    """Red when it is kept for ever."""
    now = [1000.0]
    monkeypatch.setattr("jobs.config.KEPT_SECONDS", 1.0)
    monkeypatch.setattr("jobs.config.time.monotonic", lambda: now[0])
    here = Config()
    with django_assert_num_queries(1):
        assert (here.JOB_KEEP_DAYS, here.LOG_KEEP_DAYS) == (365, 90)
    Constance.objects.create(key="JOB_KEEP_DAYS", value=dumps(7))
    now[0] += 0.9
    assert here.JOB_KEEP_DAYS == 365
    now[0] += 0.1
    assert here.JOB_KEEP_DAYS == 7


def test_what_is_no_setting_is_none() -> None:
    with pytest.raises(AttributeError):
        _ = config.JOB_KEEP_YEARS


# --- What is stored and damaged ---------------------------------------------------------------------

DAMAGED = [
    "", "{", "null", dumps("x"), dumps(None), dumps(-1), dumps(99_999), dumps([7]), dumps({}), dumps(1.5),
    '{"__type__": "decimal", "__value__": "x"}', '{"__type__": "gone", "__value__": 7}', '{"__value__": 7}',
    '{"__type__": "date", "__value__": 7}', '{"__type__": "uuid", "__value__": 7}', "[" * 100_000, "9" * 5_000, None,
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: str(text)[:45])
def test_what_is_stored_and_does_not_fit_counts_for_nothing_and_is_told_once(
    text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Red without UNFIT: whoever asks for any setting is ended by it."""
    Constance.objects.create(key="JOB_KEEP_DAYS", value=text)
    Constance.objects.create(key="LOG_KEEP_DAYS", value=dumps(7))
    here = Config()
    for _ in range(3):
        here.forget()
        assert (here.JOB_KEEP_DAYS, here.LOG_KEEP_DAYS) == (365, 7)
    [record] = [record for record in caplog.records if record.name == "jobs.config"]
    assert record.levelno == logging.WARNING
    assert "The setting JOB_KEEP_DAYS cannot be " in record.getMessage()
    assert len(record.getMessage()) < 600


def test_pauses_that_are_damaged_are_the_default_s() -> None:
    for text in (dumps([]), dumps([-1]), dumps(60), dumps(["x"]), dumps("")):
        Constance.objects.update_or_create(key="JOB_RETRY_SECONDS", defaults={"value": text})
        assert Config().JOB_RETRY_SECONDS == [60, 300, 900]


def test_a_put_mends_what_is_damaged(put: Put) -> None:
    """Red when what is as it was is left alone: the log would be told of it at every start, for ever."""
    Constance.objects.create(key="JOB_KEEP_DAYS", value="{")
    assert put().status_code == 200
    assert stored() == {"JOB_KEEP_DAYS": dumps(365)}
    assert not AuditEntry.objects.filter(action="settings.changed").exists()  # nothing else is in force


def test_what_is_no_setting_any_more_is_passed_over(api_admin: APIClient) -> None:
    Constance.objects.create(key="JOB_KEEP_YEARS", value="{")
    assert api_admin.get(PATH).json() == {**AS_THEY_ARE, "smtp_password_set": False}


# --- The database is away ---------------------------------------------------------------------------


def away(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    raise OperationalError(2006, "Server has gone away")


@pytest.fixture
def database_away() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    return lambda: connection.execute_wrapper(away)  # type: ignore[return-value]


def test_while_the_database_is_away_the_last_known_ones_count(
    put: Put, database_away: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Red when the error gets through: a job would end because nobody can tell how long its pause is."""
    put(job_retry_seconds=[7], pool_low_percent=20)
    config.read()
    with database_away():
        config.forget()
        assert (pause_after(1), config.POOL_LOW_PERCENT) == (7, 20)
        assert JobLog(Job()).half == 5_000
    assert set(stored()) == {
        "JOB_RETRY_SECONDS",
        "POOL_LOW_PERCENT",
    }  # red with `close_old_connections`: this transaction is lost
    assert "The settings cannot be read, the last known ones count" in caplog.text


def test_of_a_database_that_never_answered_the_defaults_count(database_away: Any) -> None:
    with database_away():
        assert (Config().JOB_KEEP_DAYS, Config().JOB_RETRY_SECONDS) == (365, [60, 300, 900])


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_has_ended_meanwhile_is_made_anew(live: Callable[..., None]) -> None:
    """A job of many hours: its thread asked the database for nothing. Red without `close_old_connections`: what was
    known hours ago would count."""
    live(JOB_KEEP_DAYS=7)
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        connection.connection.close()
    else:
        with suppress(OperationalError), connection.cursor() as cursor:
            cursor.execute("KILL CONNECTION_ID()")
    assert Config().JOB_KEEP_DAYS == 7


# --- Two at once ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_of_two_changes_at_once_the_second_waits_for_the_first() -> None:
    """Red without the lock: each would find the other's settings as they were, and the trail would say what never was.

    No row of a setting is there yet that could be locked instead.
    """
    if connection.vendor == "sqlite":
        return  # one writer at a time anyway
    said: list[int] = []

    def another() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
            config.change({"log_keep_days": 2})
        except OperationalError as error:
            said.append(error.args[0])
        finally:
            connection.close()

    thread = threading.Thread(target=another)
    with transaction.atomic():
        config.change({"job_keep_days": 1})
        thread.start()
        thread.join()
    assert (said, set(stored())) == ([1205], {"JOB_KEEP_DAYS"})
