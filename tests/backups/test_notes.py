"""Pins and comments over the API, what the trail says of them, and that a pin holds whenever it is set."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from backups.models import Archive, Plan
from backups.runners.delete import DeleteArchive
from backups.runners.prune import PruneArchives
from jobs.models import Job
from tests.backups.test_prune import PretendBorg, borg, keep_one
from tests.conftest import make_archive, run_now
from tests.fakes import Answer

__all__ = ["borg", "keep_one"]  # fixtures
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


def patched(client: APIClient, archive: Archive, **body: Any) -> Any:
    return client.patch(f"/api/archives/{archive.pk}", body, format="json")


def trail() -> list[tuple[str, str, Any, Any]]:
    entries = AuditEntry.objects.filter(action__startswith="archive.").order_by("pk")
    return [(each.action, each.target, each.detail["before"], each.detail["after"]) for each in entries]


def test_what_is_said_is_stored_and_audited_with_what_it_was(
    api_admin: APIClient, archive: Archive, admin: User
) -> None:
    answer = patched(api_admin, archive, comment="Before the move.", pinned=True)
    assert (answer.status_code, answer.json()["comment"], answer.json()["pinned"]) == (200, "Before the move.", True)
    patched(api_admin, archive, pinned=False, comment="Before the move.")
    assert set(trail()) == {
        ("archive.commented", archive.name, "", "Before the move."),
        ("archive.pinned", archive.name, False, True), ("archive.unpinned", archive.name, True, False),
    }  # fmt: skip
    assert set(AuditEntry.objects.filter(action__startswith="archive.").values_list("user", flat=True)) == {admin.pk}


def test_what_a_get_has_shown_may_be_put_back_with_a_comment(api_admin: APIClient, archive: Archive) -> None:
    shown = api_admin.get(f"/api/archives/{archive.pk}").json()
    answer = api_admin.put(f"/api/archives/{archive.pk}", {**shown, "comment": "Mine."}, format="json")
    assert (answer.status_code, answer.json()) == (200, {**shown, "comment": "Mine."})


@pytest.mark.parametrize(
    "body",
    [{"name": "other"}, {"borg_id": "ff" * 32}, {"suspicion": ""}, {"pinned": "true"}, {"pinned": None},
     {"comment": 7}, {"comment": None}, {"comment": "x" * 2001}, {"nonsense": 1}],
)  # fmt: skip
def test_nothing_else_can_be_said(api_admin: APIClient, archive: Archive, body: dict[str, Any]) -> None:
    before = Archive.objects.values().get()
    answer = patched(api_admin, archive, **body)
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == list(body)
    assert Archive.objects.values().get() == before
    assert trail() == []


def test_who_may_not_manage_says_nothing(api_viewer: APIClient, api_operator: APIClient, archive: Archive) -> None:
    for client in (api_viewer, api_operator):
        assert patched(client, archive, pinned=True).status_code == 403
    assert not Archive.objects.get().pinned


def test_nothing_else_of_the_row_is_written(api_admin: APIClient, archive: Archive, monkeypatch: Any) -> None:
    """Red by the serializer's own save: a renaming that ends meanwhile is undone in our record."""
    monkeypatch.setattr("backups.diff_viewsets.note", note_after_renaming)
    assert patched(api_admin, archive, comment="Mine.").status_code == 200
    found = Archive.objects.get()
    assert (found.name, found.borg_id, found.comment) == ("new-name", "ee" * 32, "Mine.")


def note_after_renaming(archive: Archive, request: Any, **said: Any) -> None:
    from backups.notes import note  # the real one, behind the patch

    Archive.objects.filter(pk=archive.pk).update(name="new-name", borg_id="ee" * 32)
    note(archive, request, **said)


def test_pins_are_shown_in_lists(as_viewer: Client, plan: Plan) -> None:
    make_archive(plan)
    assert b"pinned" not in as_viewer.get("/archives").content
    make_archive(plan, pinned=True)
    assert b"pinned" in as_viewer.get("/archives").content


# --- A pin holds ------------------------------------------------------------------------------


def test_who_deletes_what_is_pinned_is_told(api_admin: APIClient, as_admin: Client, plan: Plan) -> None:
    old = make_archive(plan, pinned=True)
    make_archive(plan)
    answer = api_admin.delete(f"/api/archives/{old.pk}/prune")
    assert (answer.status_code, answer.json()["error"]["message"]) == (409, "The archive is pinned. Unpin it first.")
    page = as_admin.post(f"/archives/{old.pk}/delete", {"name": old.name}, follow=True)
    assert "The archive is pinned. Unpin it first." in page.content.decode()
    assert not Job.objects.exists()


@pytest.mark.usefixtures("keep_one")
@pytest.mark.parametrize("runner", [PruneArchives, DeleteArchive])
def test_what_is_pinned_after_the_last_look_but_before_the_deed_stays(
    plan: Plan, request: pytest.FixtureRequest, runner: Any
) -> None:
    """Red without the look in Deletion._announce."""
    pretended: PretendBorg = request.getfixturevalue("borg")
    one = Archive.objects.get(name="one")
    plan.refresh_from_db()
    job = PruneArchives.enqueue(plan) if runner is PruneArchives else DeleteArchive.enqueue(one)
    listed, lists = pretended.machine.answers["list"], []

    def pins(command: Any) -> Answer:
        lists.append(1)
        if len(lists) == 2:  # the first is the comparison, after which is decided; this one the deletion's own
            Archive.objects.filter(pk=one.pk).update(pinned=True)
        return listed(command)  # type: ignore[operator]

    pretended.machine.answers["list"] = pins
    run_now(job)
    assert (job.status, job.error) == ("failed", "one was pinned meanwhile: nothing was deleted.")
    assert pretended.deletions == []


def test_who_pins_what_is_just_being_deleted_is_told_that_it_is_too_late(
    api_admin: APIClient, as_admin: Client, archive: Archive
) -> None:
    Job.objects.create(
        type="prune", status="running", repository=archive.repository, result={"deleting": [archive.borg_id]}
    )
    answer = patched(api_admin, archive, pinned=True)
    assert (answer.status_code, "too late" in answer.json()["error"]["message"]) == (409, True)
    assert "too late" in as_admin.post(f"/archives/{archive.pk}/pin", {"pinned": "1"}, follow=True).content.decode()
    assert not Archive.objects.get().pinned
    assert patched(api_admin, archive, comment="Bye.").status_code == 200
