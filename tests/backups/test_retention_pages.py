"""Retention on pages, over the API and from the command line."""

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import AuditEntry
from backups.models import Archive, Plan, RetentionPolicy
from jobs.models import Job
from tests.conftest import make_archive

pytestmark = pytest.mark.django_db

FORM = {
    "name": "mine", "keep_within": "2d", "keep_last": 0, "keep_hourly": 0, "keep_daily": 7, "keep_weekly": 4,
    "keep_monthly": 6, "keep_yearly": 0, "most_deletions": 50,
}  # fmt: skip
NOTHING = {name: 0 for name in FORM if name.startswith("keep_")} | {"keep_within": ""}


@pytest.fixture
def keep_two(plan: Plan) -> RetentionPolicy:
    """The plan keeps two archives of its four: the oldest one is pinned."""
    policy = RetentionPolicy.objects.create(**(FORM | NOTHING | {"name": "two", "keep_last": 2}))
    Plan.objects.filter(pk=plan.pk).update(retention=policy)
    plan.refresh_from_db()
    for number in range(4):
        start = timezone.now() - timedelta(days=number)
        make_archive(plan, name=f"day-{number}", start=start, pinned=number == 3)
    return policy


def shown(answer: Any) -> str:
    assert answer.status_code == 200
    return str(answer.getvalue().decode())


# --- Of a plan --------------------------------------------------------------------------------


def test_the_page_says_what_would_go_and_what_stays_and_why(
    as_viewer: Client, plan: Plan, keep_two: RetentionPolicy
) -> None:
    answer = as_viewer.get(f"/plans/{plan.pk}/retention")
    html = shown(answer)
    assert [archive.name for archive in answer.context["going"]] == ["day-2"]
    assert [str(kept) for kept in answer.context["page"]] == ["last #1", "last #2", "pinned"]
    assert "one of the last, number 2" in html
    assert "Apply now" not in html  # a viewer may not
    assert [outlook.count for outlook in answer.context["outlooks"]] == [3, 3, 3]


def test_who_may_delete_can_apply_it(as_admin: Client, plan: Plan, keep_two: RetentionPolicy) -> None:
    assert f'href="/jobs/start/prune/{plan.pk}"' in shown(as_admin.get(f"/plans/{plan.pk}/retention"))
    assert as_admin.post(f"/jobs/start/prune/{plan.pk}", {"at_most": "3"}).status_code == 302
    assert Job.objects.get(type="prune").payload == {"at_most": 3}


def test_an_objection_stands_on_the_page_and_there_is_no_button(
    as_admin: Client, plan: Plan, keep_two: RetentionPolicy
) -> None:
    make_archive(plan, suspicion="Odd.")
    html = shown(as_admin.get(f"/plans/{plan.pk}/retention"))
    assert "is suspicious: nothing is deleted" in html
    assert "Apply now" not in html


def test_too_many_is_said(as_viewer: Client, plan: Plan, keep_two: RetentionPolicy) -> None:
    RetentionPolicy.objects.update(most_deletions=1)
    make_archive(plan, start=timezone.now() - timedelta(days=9))
    assert "2 archives would go, more than the 1" in shown(as_viewer.get(f"/plans/{plan.pk}/retention"))


def test_without_a_policy_everything_is_kept(as_viewer: Client, plan: Plan) -> None:
    make_archive(plan)
    html = shown(as_viewer.get(f"/plans/{plan.pk}/retention"))
    assert "everything is kept" in html
    assert "How it will look" not in html


def test_a_schedule_that_makes_no_sense_does_not_break_the_page(
    as_viewer: Client, plan: Plan, keep_two: RetentionPolicy
) -> None:
    Plan.objects.update(schedule="nonsense")
    shown(as_viewer.get(f"/plans/{plan.pk}/retention"))


def test_a_plan_that_is_not_there_is_404(as_viewer: Client) -> None:
    assert as_viewer.get("/plans/999/retention").status_code == 404


def test_many_archives_are_paged_in_few_queries(
    as_viewer: Client, plan: Plan, keep_two: RetentionPolicy, django_assert_max_num_queries: Any
) -> None:
    RetentionPolicy.objects.update(keep_last=60)
    for number in range(120):
        make_archive(plan, start=timezone.now() - timedelta(days=10 + number))
    with django_assert_max_num_queries(13):
        first = as_viewer.get(f"/plans/{plan.pk}/retention")
    assert (len(first.context["page"]), len(first.context["going"])) == (50, 64)
    assert len(as_viewer.get(f"/plans/{plan.pk}/retention?page=2").context["page"]) == 10


# --- Policies ---------------------------------------------------------------------------------


def test_a_policy_is_added_and_changed(as_admin: Client) -> None:
    assert as_admin.post("/retention-policies/add", FORM).status_code == 302
    policy = RetentionPolicy.objects.get(name="mine")
    assert (policy.keep_within, policy.keep_daily, policy.most_deletions) == ("2d", 7, 50)
    assert as_admin.post(f"/retention-policies/{policy.pk}/edit", FORM | {"keep_daily": 9}).status_code == 302
    policy.refresh_from_db()
    assert policy.keep_daily == 9
    assert list(AuditEntry.objects.filter(target="mine").values_list("action", flat=True).order_by("id")) == [
        "retention.added", "retention.changed",
    ]  # fmt: skip
    assert "mine" in shown(as_admin.get("/retention-policies"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (NOTHING, "These rules keep nothing."), ({"keep_within": "2 days"}, "Enter a number with H, d, w, m or y"),
        ({"keep_within": "0d"}, "Enter a number with H, d, w, m or y"), ({"keep_daily": -1}, "greater than or equal"),
        ({"most_deletions": 0}, "greater than or equal to 1"), ({"name": ""}, "required"),
    ],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_refused_in_words(
    as_admin: Client, change: dict[str, Any], sentence: str
) -> None:
    answer = as_admin.post("/retention-policies/add", FORM | change)
    assert answer.status_code == 400
    assert sentence in answer.getvalue().decode()
    assert not RetentionPolicy.objects.filter(name="mine").exists()


def test_a_refused_form_says_which_policy_it_is_about(as_admin: Client, keep_two: RetentionPolicy) -> None:
    page = as_admin.post(f"/retention-policies/{keep_two.pk}/edit", FORM | {"name": "other", "keep_daily": "many"})
    assert page.status_code == 400
    assert "Edit the retention policy two" in page.content.decode()


@pytest.mark.parametrize("path", ["/retention-policies/add", "/retention-policies/{policy}/edit"])
def test_an_operator_changes_no_policy(as_operator: Client, keep_two: RetentionPolicy, path: str) -> None:
    path = path.format(policy=keep_two.pk)
    assert as_operator.get(path).status_code == as_operator.post(path, FORM).status_code == 403
    assert "two" in shown(as_operator.get("/retention-policies"))


# --- Of an archive ----------------------------------------------------------------------------


def test_an_archive_is_pinned_and_unpinned(as_admin: Client, archive: Archive) -> None:
    for value, pinned, action in (("1", True, "archive.pinned"), ("0", False, "archive.unpinned")):
        assert as_admin.post(f"/archives/{archive.pk}/pin", {"pinned": value}).status_code == 302
        archive.refresh_from_db()
        assert archive.pinned is pinned
        assert AuditEntry.objects.filter(action=action, target=archive.name).count() == 1


def test_a_comment_is_kept_and_shown_escaped(as_admin: Client, as_viewer: Client, archive: Archive) -> None:
    as_admin.post(f"/archives/{archive.pk}/comment", {"comment": " before <b>the</b> move "})
    archive.refresh_from_db()
    assert archive.comment == "before <b>the</b> move"
    assert "before &lt;b&gt;the&lt;/b&gt; move" in shown(as_viewer.get(f"/archives/{archive.pk}"))


def test_a_deletion_says_what_is_lost_and_asks_for_the_name(as_admin: Client, plan: Plan, archive: Archive) -> None:
    make_archive(plan)
    url = f"/archives/{archive.pk}/delete"
    assert "lost for good" in shown(as_admin.get(url))
    assert as_admin.post(url, {"name": "something else"}).headers["Location"] == url
    assert not Job.objects.exists()
    answer = as_admin.post(url, {"name": archive.name})
    job = Job.objects.get()
    assert (answer.headers["Location"], job.type, job.subject) == (
        f"/jobs/{job.pk}", "archive_delete", f"archive:{archive.pk}",
    )  # fmt: skip


def test_the_last_good_archive_is_refused_in_words(as_admin: Client, archive: Archive) -> None:
    answer = as_admin.post(f"/archives/{archive.pk}/delete", {"name": archive.name}, follow=True)
    assert "last good archive of its plan" in answer.getvalue().decode()
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("method", "action"), [("post", "pin"), ("post", "comment"), ("get", "delete"), ("post", "delete")]
)
def test_an_operator_changes_and_deletes_no_archive(
    as_operator: Client, archive: Archive, method: str, action: str
) -> None:
    data = {"name": archive.name, "pinned": "1"} if method == "post" else None
    assert getattr(as_operator, method)(f"/archives/{archive.pk}/{action}", data).status_code == 403
    archive.refresh_from_db()
    assert not archive.pinned
    html = shown(as_operator.get(f"/archives/{archive.pk}"))
    assert f"/archives/{archive.pk}/pin" not in html
    assert f"/archives/{archive.pk}/delete" not in html


def test_changes_come_by_post(as_admin: Client, archive: Archive) -> None:
    assert as_admin.get(f"/archives/{archive.pk}/pin").status_code == 405
    assert as_admin.get(f"/archives/{archive.pk}/comment").status_code == 405
    assert as_admin.post("/archives/999/pin").status_code == as_admin.get("/archives/999/delete").status_code == 404


# --- API --------------------------------------------------------------------------------------


def test_the_api_previews_retention(api_viewer: APIClient, plan: Plan, keep_two: RetentionPolicy) -> None:
    told = api_viewer.get(f"/api/plans/{plan.pk}/retention").json()
    assert [one["name"] for one in told["going"]] == ["day-2"]
    assert [(one["name"], one["why"]) for one in told["kept"]] == [
        ("day-0", "last #1"), ("day-1", "last #2"), ("day-3", "pinned"),
    ]  # fmt: skip
    assert (told["refused"], told["too_many"], told["most_deletions"]) == ("", False, 50)
    assert [(outlook["months"], outlook["count"]) for outlook in told["outlooks"]] == [(1, 3), (3, 3), (12, 3)]
    assert api_viewer.get("/api/plans/999/retention").status_code == 404


def test_the_api_deletes_an_archive_by_a_job(api_admin: APIClient, plan: Plan, archive: Archive) -> None:
    make_archive(plan)
    answer = api_admin.delete(f"/api/archives/{archive.pk}/prune")
    job = Job.objects.get()
    assert (answer.status_code, answer.json()["id"]) == (202, str(job.pk))
    assert (job.type, job.trigger) == ("archive_delete", "api")


def test_the_api_refuses_what_must_stay(
    api_admin: APIClient, api_operator: APIClient, api_viewer: APIClient, archive: Archive
) -> None:
    answer = api_admin.delete(f"/api/archives/{archive.pk}/prune")
    assert answer.status_code == 409
    assert "last good archive" in answer.json()["error"]["message"]
    for client in (api_operator, api_viewer):
        assert client.delete(f"/api/archives/{archive.pk}/prune").status_code == 403
    assert api_admin.post(f"/api/archives/{archive.pk}/prune").status_code == 405
    assert api_admin.delete("/api/archives/999/prune").status_code == 404


# --- Command ----------------------------------------------------------------------------------


def apply(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("apply_retention", *words, stdout=out, stderr=err)
    return int(str(end.value.code)), out.getvalue(), err.getvalue()


def test_a_dry_run_tells_and_starts_nothing(plan: Plan, keep_two: RetentionPolicy) -> None:
    code, out, err = apply("--dry-run")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "web-1/files: 3 stay, 1 would go", "  stays  day-0  last #1", "  stays  day-1  last #2",
        "  stays  day-3  pinned", "  goes   day-2",
    ]  # fmt: skip
    assert not Job.objects.exists()


def test_a_dry_run_for_programs(plan: Plan, keep_two: RetentionPolicy) -> None:
    code, out, _ = apply("--dry-run", "--json", "--plan", "web-1/files")
    (told,) = json.loads(out)
    assert (code, told["plan"], told["refused"]) == (0, "web-1/files", "")
    assert [one["name"] for one in told["going"]] == ["day-2"]


@pytest.mark.parametrize("why", ["suspicious", "too many"])
def test_a_dry_run_warns_monitoring(plan: Plan, keep_two: RetentionPolicy, why: str) -> None:
    if why == "suspicious":
        make_archive(plan, suspicion="Odd.")
    else:
        make_archive(plan, start=timezone.now() - timedelta(days=9))
        RetentionPolicy.objects.update(most_deletions=1)
    code, _, err = apply("--dry-run")
    assert code == 1
    assert why in err or "more than the 1 that may go" in err


def test_it_starts_what_has_something_to_do(plan: Plan, second_plan: Plan, keep_two: RetentionPolicy) -> None:
    Plan.objects.filter(pk=second_plan.pk).update(retention=keep_two)
    make_archive(second_plan)
    assert apply()[0] == 0
    assert Job.objects.get().plan == plan


def test_what_is_refused_is_said_and_counts(plan: Plan) -> None:
    code, _, err = apply("--plan", "files")
    assert code == 1
    assert "has no retention policy" in err


@pytest.mark.parametrize("words", [["--plan", "nothing"], ["--dry-run", "--wait"]])
def test_a_wrong_use_is_2(plan: Plan, words: list[str]) -> None:
    with pytest.raises(CommandError) as error:
        call_command("apply_retention", *words)
    assert error.value.returncode == 2
