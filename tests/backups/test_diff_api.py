"""Comparing two archives: the job over the API, what is refused, and the pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts import encryption
from backups import diffs
from backups.borg.changes import Change, Kind
from backups.models import Archive, Plan, Repository
from backups.runners.diff import DiffArchives
from jobs.models import Job
from jobs.runner import Refused
from tests.conftest import make_archive, run_now
from tests.fakes import Answer, FakeMachine

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]
LINES = b"""{"path": "srv/new", "changes": [{"type": "added", "size": 900}]}
{"path": "srv/gone", "changes": [{"type": "removed", "size": 50}]}
{"path": "etc/<b>", "changes": [{"type": "modified", "added": 10, "removed": 7}]}
"""


@pytest.fixture
def two(plan: Plan) -> tuple[Archive, Archive]:
    after = make_archive(plan)
    return make_archive(plan, start=after.start - timedelta(days=1)), after


Two = tuple[Archive, Archive]


@pytest.fixture
def borg(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    machine = FakeMachine(diff=Answer(LINES))
    monkeypatch.setattr("backups.runners.diff.Local", lambda: machine)
    return machine


@pytest.fixture
def compared(two: Two) -> Two:
    changes = [
        Change(b"srv/new", Kind.ADDED, 900, 0), Change(b"srv/gone", Kind.REMOVED, 0, 50),
        Change(b"etc/<b>", Kind.CHANGED, 10, 7, mode="-rw-r--r-- → -rw-------"),
        *(Change(b"many/%04d" % n, Kind.ADDED, n, 0) for n in range(250)),
    ]  # fmt: skip
    diffs.build(*two, changes, lambda _: [])
    return two


def asked(client: APIClient, two: Two, query: str = "") -> Any:
    return client.get(f"/api/archives/{two[1].pk}/diff?other={two[0].pk}{query}")


# --- The job ----------------------------------------------------------------------------------


def test_two_archives_are_compared(api_viewer: APIClient, two: Two, borg: FakeMachine) -> None:
    assert asked(api_viewer, two).status_code == 409
    answer = api_viewer.post(f"/api/archives/{two[1].pk}/diff", {"other": two[0].pk}, format="json")
    assert answer.status_code == 202
    job = run_now(Job.objects.get(pk=answer.json()["id"]))
    assert (job.status, job.result) == ("completed", {"before": two[0].pk, "added": 910, "removed": 57, "entries": 3})
    page = asked(api_viewer, two).json()
    assert [row["name"] for row in page["results"]] == ["srv", "etc"]
    assert (page["folder"]["growth"], page["count"]) == (853, 2)
    again = run_now(DiffArchives.enqueue(two[1], other=two[0].pk))
    assert again.result == job.result
    assert len(borg.commands) == 1  # kept from the first time


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(LINES, code=2), "borg diff failed with exit code 2."),
        (Answer(LINES[:-10]), "What borg says of the two archives cannot be read: the comparison ends in the middle"),
        (Answer(b"[]\n"), "What borg says of the two archives cannot be read: a line of the comparison is not"),
    ],
)
def test_half_a_comparison_is_none(two: Two, borg: FakeMachine, answer: Answer, error: str, settings: Any) -> None:
    """Red if the exit code is not looked at before the file is moved into place."""
    borg.answers["diff"] = answer
    job = run_now(DiffArchives.enqueue(two[1], other=two[0].pk))
    assert job.status == "failed"
    assert job.error.startswith(error)
    assert not diffs.file_of(*two).exists()


def test_a_warning_of_borg_is_no_failure(two: Two, borg: FakeMachine) -> None:
    """Borg 1.2 exits with 1 when the archives are in other chunks."""
    borg.answers["diff"] = Answer(LINES, code=1)
    assert run_now(DiffArchives.enqueue(two[1], other=two[0].pk)).status == "completed"


@pytest.mark.parametrize("change", ["delete", "rename"])
def test_what_is_deleted_or_renamed_meanwhile_was_not_compared(two: Two, borg: FakeMachine, change: str) -> None:
    """Red without the look afterwards: by that name borg may have read another archive."""

    def meanwhile() -> None:
        other = Archive.objects.filter(pk=two[0].pk)
        other.delete() if change == "delete" else other.update(name="new", borg_id="e" * 64)

    borg.answers["diff"] = Answer(LINES, while_running=meanwhile)
    job = run_now(DiffArchives.enqueue(two[1], other=two[0].pk))
    assert job.error == f"{two[0].name} was deleted or renamed while it was compared."
    assert not diffs.file_of(*two).exists()


def test_what_was_deleted_while_the_job_waited_is_a_sentence(two: Two, borg: FakeMachine) -> None:
    job = DiffArchives.enqueue(two[1], other=two[0].pk)
    two[0].delete()
    assert run_now(job).error == "The archive to compare with has been deleted."
    assert borg.commands == []


def test_what_cannot_be_compared_is_refused(api_viewer: APIClient, plan: Plan, two: Two) -> None:
    elsewhere = Repository.objects.create(
        name="else", pool=plan.repository.pool, server=plan.server, state="ready",
        passphrase_encrypted=encryption.encrypt("x"),
    )  # fmt: skip
    foreign = make_archive(plan, repository=elsewhere)
    url = f"/api/archives/{two[1].pk}/diff"
    for other, why in ((two[1].pk, "one and the same"), (foreign.pk, "different repositories"), (10**6, "not exist")):
        answer = api_viewer.post(url, {"other": other}, format="json")
        assert answer.status_code == 409
        assert why in answer.json()["error"]["message"]
        job = {"type": "diff", "subject": two[1].pk, "parameters": {"other": other}}
        assert api_viewer.post("/api/jobs", job, format="json").status_code == 409
    for body in ({}, {"other": "x"}, {"other": 0}, {"other": -1}, {"other": 2**63}, {"other": None}, {"other": 1.5}):
        assert api_viewer.post(url, body, format="json").status_code == 400, body
    assert not Job.objects.exists()


def test_the_same_two_are_compared_once_at_a_time_and_others_beside_them(plan: Plan, two: Two) -> None:
    job = DiffArchives.enqueue(two[1], other=two[0].pk)
    with pytest.raises(Refused, match="being compared already") as refused:
        DiffArchives.enqueue(two[1], other=two[0].pk)
    assert refused.value.job == job
    assert DiffArchives.enqueue(two[1], other=make_archive(plan).pk)
    assert DiffArchives.enqueue(two[0], other=two[1].pk)


# --- A folder ---------------------------------------------------------------------------------


def test_a_folder_is_shown_with_its_sums(api_viewer: APIClient, compared: Two) -> None:
    page = asked(api_viewer, compared, "&path=/srv/").json()
    assert page["path"] == "/srv/"
    assert page["folder"] == {
        "name": "srv", "kind": "", "mode": "", "owner": "", "times": False, "exact": True, "added": 900,
        "removed": 50, "growth": 850, "below": 2, "count_added": 1, "count_removed": 1, "count_changed": 0,
        "count_attributes": 0,
    }  # fmt: skip
    assert [(row["name"], row["kind"], row["growth"]) for row in page["results"]] == [
        ("new", "added", 900), ("gone", "removed", -50),
    ]  # fmt: skip


def test_it_is_paged_ordered_and_filtered(api_viewer: APIClient, compared: Two) -> None:
    first = asked(api_viewer, compared, "&path=many").json()
    assert (first["count"], len(first["results"]), first["results"][0]["name"]) == (250, 100, "0249")
    third = api_viewer.get(api_viewer.get(first["next"]).json()["next"]).json()
    assert (len(third["results"]), third["next"]) == (50, None)
    assert asked(api_viewer, compared, "&path=many&ordering=name&page_size=1").json()["results"][0]["name"] == "0000"
    assert [row["name"] for row in asked(api_viewer, compared, "&kind=removed").json()["results"]] == ["srv"]


@pytest.mark.parametrize(
    "query", ["&page=0", "&page_size=1001", "&ordering=size", "&ordering=", "&kind=same", "&nonsense=1", "&page=x"]
)
def test_a_query_that_cannot_be_is_refused_in_words(api_viewer: APIClient, compared: Two, query: str) -> None:
    answer = asked(api_viewer, compared, query)
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [query[1:].partition("=")[0]]


def test_what_there_is_not_is_404(api_viewer: APIClient, compared: Two) -> None:
    assert asked(api_viewer, compared, "&path=nothing").status_code == 404
    url = f"/api/archives/{compared[1].pk}/diff"
    assert api_viewer.get(f"{url}?other=1000000").status_code == 404
    assert api_viewer.get(url).status_code == api_viewer.get(f"{url}?other=x").status_code == 400
    assert api_viewer.get(f"/api/archives/1000000/diff?other={compared[0].pk}").status_code == 404


# --- Pages ------------------------------------------------------------------------------------


def test_the_one_before_of_the_same_plan_is_offered(as_viewer: Client, two: Two, second_plan: Plan) -> None:
    make_archive(second_plan, start=two[1].start - timedelta(hours=1))
    url = f"/archives/{two[1].pk}/diff"
    answer = as_viewer.get(url)
    assert answer.context["before"] == two[0]
    assert f'value="{two[0].pk}" selected' in answer.content.decode()
    chosen = as_viewer.get(url, {"other": two[0].pk})
    assert chosen["Location"] == f"/archives/{two[1].pk}/diff/{two[0].pk}"
    for odd in ("x", "-1", "9" * 30, "²", ""):
        assert as_viewer.get(url, {"other": odd}).status_code == 200
    assert as_viewer.get(url, {"other": two[1].pk}).status_code == 404


def test_what_is_not_compared_yet_can_be_by_a_click(as_viewer: Client, two: Two, borg: FakeMachine) -> None:
    url = f"/archives/{two[1].pk}/diff/{two[0].pk}"
    assert "have not been compared" in as_viewer.get(url).content.decode()
    assert as_viewer.post(url)["Location"] == url
    waiting = as_viewer.get(url).content.decode()
    assert "are being compared" in waiting
    assert "hx-get" in waiting
    assert as_viewer.post(url)["Location"] == url  # twice is once
    run_now(Job.objects.get())
    html = as_viewer.get(url).content.decode()
    assert "853 B" in html
    assert html.index(">srv<") < html.index(">etc<")


def test_one_that_failed_says_so_and_can_be_tried_again(as_viewer: Client, two: Two, borg: FakeMachine) -> None:
    borg.answers["diff"] = Answer(code=2)
    run_now(DiffArchives.enqueue(two[1], other=two[0].pk))
    html = as_viewer.get(f"/archives/{two[1].pk}/diff/{two[0].pk}").content.decode()
    assert "borg diff failed with exit code 2." in html
    assert 'method="post"' in html


def test_folders_are_entered_names_escaped_and_nonsense_is_no_error(as_viewer: Client, compared: Two) -> None:
    url = f"/archives/{compared[1].pk}/diff/{compared[0].pk}"
    etc = next(item for item in as_viewer.get(url).context["items"] if item.name == b"etc")
    html = as_viewer.get(url, {"folder": etc.id}).content.decode()
    assert "&lt;b&gt;" in html
    assert "-rw-r--r-- → -rw-------" in html
    many = next(item for item in as_viewer.get(url).context["items"] if item.name == b"many")
    second = as_viewer.get(url, {"folder": many.id, "page": 2, "ordering": "name", "kind": "added"})
    assert len(second.context["items"]) == 50
    for query in ("page=0", "page=x", "page=9999999999", "ordering=x", "kind=x", "folder=x"):
        assert as_viewer.get(f"{url}?{query}").status_code == 200, query
    assert as_viewer.get(f"{url}?folder=9999").status_code == 404


def test_pages_of_what_cannot_be_compared_are_404(as_viewer: Client, two: Two) -> None:
    assert as_viewer.get(f"/archives/{two[1].pk}/diff/{two[1].pk}").status_code == 404
    assert as_viewer.get(f"/archives/{two[1].pk}/diff/1000000").status_code == 404
    assert as_viewer.get("/archives/1000000/diff").status_code == 404
    page = as_viewer.post(f"/archives/{two[1].pk}/diff/{two[1].pk}")
    assert page.status_code == 302
    assert not Job.objects.exists()
