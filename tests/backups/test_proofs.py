"""Evidence of restore tests: signed, verified, shown; when they fall due; and what a plan's health says of them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from backups import health, maintenance, proofs
from backups.catalog import Catalog, build
from backups.health import State
from backups.maintenance import prove_plans
from backups.models import Archive, Plan, Repository, RestoreTest, RetentionPolicy
from backups.runners.proof import ProveRestore
from jobs.models import Job
from jobs.runner import Refused, end
from servers.models import Server
from tests.backups.replay import entry
from tests.conftest import make_archive, make_proof

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def proof(archive: Archive) -> RestoreTest:
    return make_proof(archive)


# --- Evidence ---------------------------------------------------------------------------------------


def test_no_byte_of_the_evidence_can_be_another_one(proof: RestoreTest) -> None:
    text, signature, key = proof.evidence, proof.signature, proof.public_key
    assert proofs.is_signed(text, signature, key)
    for at in range(len(text)):
        changed = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
        assert not proofs.is_signed(changed, signature, key), at
    for wrong in (signature[2:], "00" * 64, "no hexadecimal", signature + "00"):
        assert not proofs.is_signed(text, wrong, key)
    for wrong in ("", "00" * 32, key[2:], "ä" * 64):
        assert not proofs.is_signed(text, signature, wrong)


def test_a_key_that_is_still_listed_is_this_sites(proof: RestoreTest, settings: Any) -> None:
    old, new = settings.ENCRYPTION_KEYS[0], Fernet.generate_key().decode()
    assert proofs.is_of_this_site(proof.public_key)
    settings.ENCRYPTION_KEYS = [new, old]
    assert proofs.is_of_this_site(proof.public_key)
    assert proofs.signed({})["public_key"] != proof.public_key
    settings.ENCRYPTION_KEYS = [new]
    assert not proofs.is_of_this_site(proof.public_key)
    assert proofs.is_signed(proof.evidence, proof.signature, proof.public_key)


def test_evidence_says_nothing_secret(proof: RestoreTest) -> None:
    for secret in (*django_settings.ENCRYPTION_KEYS, django_settings.SECRET_KEY):
        assert secret not in proofs.as_file(proof)


def verify(file: Path, **options: Any) -> int:
    try:
        call_command("verify_proof", str(file), **options)
    except CommandError as error:
        return error.returncode
    return 0


def test_a_downloaded_file_is_verified(proof: RestoreTest, as_viewer: Client, tmp_path: Path, settings: Any) -> None:
    answer = as_viewer.get(f"/restore-tests/{proof.pk}/download")
    assert answer["Content-Disposition"] == f'attachment; filename="restore-test-{proof.pk}.json"'
    file = tmp_path / "proof.json"
    file.write_bytes(answer.content)
    assert verify(file) == 0
    told = json.loads(file.read_text())
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps({**told, "evidence": told["evidence"].replace("200", "201")}))
    assert verify(changed) == 1
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert verify(file) == 1
    assert verify(file, key=told["public_key"]) == 0
    for text in ("", "[]", "{}", '{"evidence": 1, "signature": 2, "public_key": 3}', "[" * 100_000):
        changed.write_text(text)
        assert verify(changed) == 2, text[:20]
    assert verify(tmp_path / "nothing") == 2


# --- Pages and API ----------------------------------------------------------------------------------


def test_the_pages_show_what_was_found(proof: RestoreTest, as_operator: Client) -> None:
    plan = proof.plan
    assert plan
    Plan.objects.update(last_good_at=timezone.now())
    html = as_operator.get(plan.get_absolute_url()).content.decode()
    assert f"/restore-tests/{proof.pk}" in html
    assert f"/jobs/start/proof/{plan.pk}" in html
    assert f"/restore-tests/{proof.pk}" in as_operator.get(f"/plans/{plan.pk}/restore-tests").content.decode()
    html = as_operator.get(f"/restore-tests/{proof.pk}").content.decode()
    assert proof.signature in html
    assert "of this site" in html
    assert "The signature does not fit" not in html


def test_a_page_of_what_is_gone_still_tells(proof: RestoreTest, as_viewer: Client) -> None:
    plan, archive = proof.plan, proof.archive
    assert plan
    assert archive
    archive.delete()
    plan.delete()
    proof.refresh_from_db()
    assert (proof.plan, proof.archive) == (None, None)
    html = as_viewer.get(f"/restore-tests/{proof.pk}").content.decode()
    assert archive.name in html


def test_changed_evidence_is_said_to_be(proof: RestoreTest, as_viewer: Client) -> None:
    RestoreTest.objects.update(evidence=proof.evidence.replace("200", "201"))
    assert "The signature does not fit" in as_viewer.get(f"/restore-tests/{proof.pk}").content.decode()


def test_the_api_lists_shows_and_starts(proof: RestoreTest, api_operator: APIClient) -> None:
    plan = proof.plan
    assert plan
    other = make_proof(make_archive(plan), held=False, failure="Odd.", server=None)
    listed = api_operator.get(f"/api/restore-tests?plan={plan.pk}").json()
    assert [one["id"] for one in listed["results"]] == [other.pk, proof.pk]
    assert "evidence" not in listed["results"][0]
    assert api_operator.get(f"/api/restore-tests?server={plan.server_id}").json()["count"] == 1
    shown = api_operator.get(f"/api/restore-tests/{proof.pk}").json()
    assert proofs.is_signed(shown["evidence"], shown["signature"], shown["public_key"])
    answer = api_operator.post(f"/api/plans/{plan.pk}/prove", {"files": 7})
    assert answer.status_code == 202
    assert Job.objects.get().payload == {"archive": "newest", "files": 7}
    assert api_operator.post(f"/api/plans/{plan.pk}/prove", {}).status_code == 409
    assert api_operator.post(f"/api/plans/{plan.pk}/prove", {"files": 2001}).status_code == 400


def test_without_an_archive_there_is_nothing_to_test(plan: Plan) -> None:
    with pytest.raises(Refused, match="has no good archive yet"):
        ProveRestore.enqueue(plan)


# --- When -------------------------------------------------------------------------------------------


@pytest.fixture
def due(archive: Archive) -> Plan:
    """A plan whose turn is now."""
    plan = archive.plan
    assert plan
    now = timezone.now()
    Plan.objects.update(last_good_at=now, proof_due_at=now - DAY, proof_overdue_at=now + 30 * DAY)
    plan.refresh_from_db()
    return plan


def test_a_turn_that_is_due_is_taken_once(due: Plan) -> None:
    assert prove_plans() == 1
    job = Job.objects.get()
    assert (job.type, job.trigger, job.payload) == ("proof", "schedule", {})
    before = due.proof_due_at
    assert before
    due.refresh_from_db()
    assert due.proof_due_at == before + 30 * DAY
    job.delete()
    assert prove_plans() == 0


def test_somebody_who_takes_the_turn_first_has_it(due: Plan) -> None:
    """Red without the condition: two schedulers would start it twice."""
    Plan.objects.update(proof_due_at=timezone.now() + DAY)
    assert maintenance._prove(due, timezone.now()) is False
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (Plan, {"enabled": False}), (Plan, {"proof_days": 0}), (Server, {"enabled": False}),
        (Repository, {"damage": "A byte."}), (Repository, {"frozen": "Odd."}), (Repository, {"state": "creating"}),
    ],
)  # fmt: skip
def test_not_where_it_makes_no_sense(due: Plan, model: type[Any], changes: dict[str, Any]) -> None:
    model.objects.update(**changes)
    assert prove_plans() == 0
    due.refresh_from_db()
    assert due.proof_due_at
    assert due.proof_due_at < timezone.now()  # as soon as it does


def test_a_repository_that_somebody_holds_is_left_for_the_next_round(due: Plan) -> None:
    job = Job.objects.create(
        type="backup", status="running", repository=due.repository, holds=f"repository:{due.repository_id}"
    )
    assert prove_plans() == 0
    job.delete()
    assert prove_plans() == 1


def test_what_is_refused_has_another_turn_soon(due: Plan) -> None:
    Archive.objects.all().delete()
    assert prove_plans() == 0
    due.refresh_from_db()
    assert due.proof_due_at
    assert timezone.now() < due.proof_due_at < timezone.now() + DAY


def test_one_that_tested_nothing_has_another_turn_soon(due: Plan) -> None:
    prove_plans()
    job = Job.objects.get()
    job.claim("x", holds=None)
    end(job, status=Job.Status.FAILED, error="No room.")
    due.refresh_from_db()
    assert due.proof_due_at
    assert due.proof_due_at < timezone.now() + DAY


def test_first_turns_are_spread_over_the_first_period(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand plans do not start on one day. Red without the share of each."""
    plan = archive.plan
    assert plan
    Plan.objects.bulk_create(
        Plan(name=f"p{n}", server=plan.server, repository=plan.repository, last_good_at=timezone.now())
        for n in range(200)
    )
    assert prove_plans() == 0
    turns = list(Plan.objects.exclude(last_good_at=None).values_list("proof_due_at", "proof_overdue_at"))
    now = timezone.now()
    for week in range(4):
        begins = now + week * 7 * DAY
        assert 20 < sum(begins <= at < begins + 7 * DAY for at, _ in turns if at) < 80
    assert {overdue for _, overdue in turns if overdue and not 59 * DAY < overdue - now < 61 * DAY} == set()
    assert Plan.objects.get(pk=plan.pk).proof_due_at is None  # of which nobody says that it has an archive
    monkeypatch.setattr(maintenance, "AT_ONCE", 3)
    monkeypatch.setattr(ProveRestore, "refuse", lambda _: None)
    Plan.objects.update(proof_due_at=now - DAY)
    assert [prove_plans(), prove_plans()] == [3, 3]


def test_an_idle_round_asks_little(due: Plan, django_assert_max_num_queries: Any) -> None:
    Plan.objects.update(proof_due_at=timezone.now() + DAY)
    with django_assert_max_num_queries(3):
        assert prove_plans() == 0


def test_tests_that_come_more_often_do_not_wait_for_the_old_turn(due: Plan, api_admin: APIClient) -> None:
    Plan.objects.update(proof_due_at=timezone.now() + 20 * DAY)
    assert api_admin.patch(f"/api/plans/{due.pk}", {"proof_days": 60}).json()["proof_due_at"]
    assert api_admin.patch(f"/api/plans/{due.pk}", {"proof_days": 7}).json()["proof_due_at"] is None
    assert api_admin.patch(f"/api/plans/{due.pk}", {"proof_days": 0}).status_code == 200
    due.refresh_from_db()
    assert (due.proof_due_at, due.proof_overdue_at) == (None, None)


# --- Health -----------------------------------------------------------------------------------------


def state_of(plan: Plan) -> tuple[State, str]:
    found = health.of_plan(Plan.objects.with_scope().get(pk=plan.pk))
    return found.state, found.reason


def test_what_did_not_hold_is_a_risk_and_what_is_long_ago_needs_a_look(due: Plan) -> None:
    job = Job.objects.create(type="backup", status="completed", result={})
    Plan.objects.update(last_job=job, last_outcome="good")
    assert state_of(due)[0] == State.PROTECTED
    Plan.objects.update(proof_overdue_at=timezone.now() - DAY)
    assert state_of(due)[0] == State.ATTENTION
    Plan.objects.update(proof_failed="2 of 3 files.")
    assert state_of(due) == (State.AT_RISK, "A restore test did not hold: 2 of 3 files.")


def test_a_server_without_any_restore_test_is_well_at_first(plan: Plan) -> None:
    """Red if it counted from when the plan was made: all servers of a site that is updated would need a look."""
    job = Job.objects.create(type="backup", status="completed", result={})
    Plan.objects.update(
        last_job=job, last_outcome="good", last_good_at=timezone.now(), created_at=timezone.now() - 900 * DAY
    )
    assert state_of(plan)[0] == State.PROTECTED
    prove_plans()
    assert state_of(plan)[0] == State.PROTECTED


def test_a_server_shows_its_four_marks(due: Plan, as_viewer: Client) -> None:
    now = timezone.now()
    Plan.objects.update(proved_at=now - 3 * DAY)
    Repository.objects.update(checked_at=now - 2 * DAY)

    def marks() -> str:
        html = as_viewer.get(due.server.get_absolute_url()).content.decode()
        return html[html.index("stats marks") : html.index("</dl>", html.index("stats marks"))]

    shown = marks()
    assert shown.count("<dt>") == 4
    assert "3 days ago" in shown
    assert "2 days ago" in shown
    assert "never" in shown  # retention
    Plan.objects.update(tidied_at=now - 4 * DAY, retention=RetentionPolicy.objects.create(name="a"))
    assert "4 days ago" in marks()


# --- Samples ----------------------------------------------------------------------------------------


def test_a_sample_is_of_regular_files_of_that_archive(archive: Archive) -> None:
    """Red if it took whatever has a number: folders, and files of other archives."""
    plan = archive.plan
    assert plan
    build(archive, [entry(b"d/"), *(entry(b"d/old-%d" % n) for n in range(300))])
    newer = make_archive(plan, start=archive.taken_at + DAY)
    odd = [entry(b"d/l", mode="lrwxrwxrwx", link=b"x"), entry(b"d/p", mode="prw-------")]
    build(newer, [entry(b"d/"), *odd, *(entry(b"d/new-%d" % n) for n in range(50))])
    with Catalog(newer) as listing:
        for number in (1, 10, 49, 50, 500):
            names = [item.name for item in listing.sample(number)]
            assert len(set(names)) == len(names) == min(number, 50)
            assert all(name.startswith(b"new-") for name in names)
        assert listing.sample(0) == []
        chosen = {item.name for _ in range(100) for item in listing.sample(5)}
        assert len(chosen) > 40
        assert (listing.regular_files(), listing.entries(), listing.below_no_folder()) == (50, 53, 0)


def test_what_lies_below_no_folder_is_found(archive: Archive) -> None:
    build(archive, [entry(b"a"), entry(b"x", mode="lrwxrwxrwx", link=b"/etc"), entry(b"x/passwd")])
    with Catalog(archive) as listing:
        assert listing.below_no_folder() == 1
        assert listing.file_at(b"x/passwd") is None
        assert listing.file_at(b"a")
        assert listing.file_at(b"x") is None
