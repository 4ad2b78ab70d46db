"""What somebody may ask to restore: on the page, and over the API."""

import json
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.access import Permission
from accounts.models import User
from backups import catalog
from backups.catalog import Catalog
from backups.models import Archive
from jobs.models import Job
from servers.models import Server
from tests.backups.replay import entry
from tests.conftest import holder, page_of

pytestmark = pytest.mark.django_db

FROM_ROOT = "Enter a path from the root, as /srv/restore."
ODD = "The path has a character that cannot be meant, as a line break."
OTHERWISE = {
    "server": None, "where": "directory", "existing": "overwrite", "owners": True, "verify": False, "dry_run": False,
}  # fmt: skip
BAD_DIRECTORIES = [
    ("", "This field is required."),
    ("srv", FROM_ROOT),
    ("./srv", FROM_ROOT),
    ("~/srv", FROM_ROOT),
    ("--target", FROM_ROOT),
    (" /srv", FROM_ROOT),
    ("/srv\n/etc", ODD),
    ("/srv\t", ODD),
    ("/srv\x1b", ODD),
    ("/srv/../etc", "Enter the path without “..”."),
    ("/..", "Enter the path without “..”."),
    ("/srv\0", "Null characters are not allowed."),
    ("/" + "x" * 4096, "at most 4096 characters"),
]


@pytest.fixture
def indexed(archive: Archive) -> Archive:
    catalog.build(archive, [entry(b"etc/"), entry(b"etc/<b>hosts"), *(entry(b"etc/%02d" % n) for n in range(30))])
    return archive


def numbers(archive: Archive, count: int) -> list[int]:
    """Of the first entries in the folder."""
    with Catalog(archive) as listing:
        folder = listing.find(b"etc")
        assert folder
        return [item.id for item in listing.folder(folder.id, order="-name", limit=count)]


# --- The page ---------------------------------------------------------------------------------


def test_without_a_choice_the_page_offers_everything(as_admin: Client, archive: Archive) -> None:
    answer = as_admin.get(f"/archives/{archive.pk}/restore")
    html = answer.getvalue().decode()
    assert "Everything: 100 files, 1.0 MB." in html
    assert "Restore everything" in html
    assert answer.context["form"].initial == {"directory": f"/var/tmp/restored-{archive.name}"}


def test_what_was_chosen_is_shown_with_its_path_escaped(as_admin: Client, indexed: Archive) -> None:
    answer = as_admin.post(f"/archives/{indexed.pk}/restore", {"entry": numbers(indexed, 1)})
    html = answer.getvalue().decode()
    assert answer.status_code == 200
    assert "/etc/&lt;b&gt;hosts" in html
    assert "Restore one entry" in html
    assert not Job.objects.exists()


def test_of_many_only_some_are_shown_but_all_are_sent_on(as_admin: Client, indexed: Archive) -> None:
    html = as_admin.post(f"/archives/{indexed.pk}/restore", {"entry": numbers(indexed, 30)}).getvalue().decode()
    assert html.count("<li>/etc/") == 20
    assert "<li>…</li>" in html
    assert html.count('type="hidden" name="entry"') == 30
    assert "Restore 30 entries" in html


def test_the_button_starts_the_job_and_leads_to_it(as_admin: Client, admin: User, indexed: Archive) -> None:
    sent = {"entry": [2, 3], "directory": '/srv/it\'s "here"'}
    answer = as_admin.post(f"/archives/{indexed.pk}/restore", sent)
    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.pk}"
    assert (job.type, job.user, job.server, job.plan) == ("restore", admin, indexed.server, indexed.plan)
    assert job.payload == {
        **OTHERWISE, "paths": [], "entries": [2, 3], "directory": '/srv/it\'s "here"', "server": indexed.server_id,
    }  # fmt: skip


@pytest.mark.parametrize(("directory", "sentence"), BAD_DIRECTORIES)
def test_the_page_refuses_a_bad_directory_in_words(
    as_admin: Client, indexed: Archive, directory: str, sentence: str
) -> None:
    answer = as_admin.post(f"/archives/{indexed.pk}/restore", {"entry": numbers(indexed, 1), "directory": directory})
    assert answer.status_code == 400
    assert sentence in str(answer.context["form"].errors["directory"])
    assert "/etc/&lt;b&gt;hosts" in answer.getvalue().decode()
    assert not Job.objects.exists()


@pytest.mark.parametrize("choice", [["x"], ["2", "x"], [""], ["-2"], ["2.0"], ["9" * 40], ["²"]])
def test_a_choice_that_cannot_be_is_never_taken_for_everything(
    as_admin: Client, indexed: Archive, choice: list[str]
) -> None:
    answer = as_admin.post(f"/archives/{indexed.pk}/restore", {"entry": choice, "directory": "/srv"})
    assert answer.status_code == 400
    assert not Job.objects.exists()


def test_what_stands_in_the_way_is_said_on_the_page(as_admin: Client, archive: Archive) -> None:
    Server.objects.update(enabled=False)
    answer = as_admin.post(f"/archives/{archive.pk}/restore", {"directory": "/srv"})
    assert answer.status_code == 400
    assert "web-1 is switched off. Switch it on first." in answer.getvalue().decode()


def test_the_page_works_without_a_listing(as_admin: Client, archive: Archive) -> None:
    assert as_admin.post(f"/archives/{archive.pk}/restore", {"entry": [2]}).status_code == 200


def test_only_who_may_restore_sees_it(as_operator: Client, as_viewer: Client, archive: Archive) -> None:
    for client in (as_operator, as_viewer):
        assert client.get(f"/archives/{archive.pk}/restore").status_code == 403
        assert client.post(f"/archives/{archive.pk}/restore", {"directory": "/srv"}).status_code == 403
    assert not Job.objects.exists()


def test_an_archive_that_is_not_there_is_404(as_admin: Client, api_admin: APIClient) -> None:
    assert as_admin.get("/archives/999/restore").status_code == 404
    assert api_admin.post("/api/archives/999/restore", {"directory": "/srv"}).status_code == 404


# --- Where to, and how ------------------------------------------------------------------------


def fill_in(client: Client, archive: Archive, **fields: Any) -> Any:
    return client.post(f"/archives/{archive.pk}/restore", {"directory": "/srv", **fields})


def test_everything_in_its_place_wants_the_servers_name(as_admin: Client, archive: Archive) -> None:
    """Red without RestorePage.clean."""
    for typed in ("", "web-2", "WEB-1"):
        answer = fill_in(as_admin, archive, where="place", confirm=typed)
        assert answer.status_code == 400
        assert "Type the server&#x27;s name as it is written above." in answer.getvalue().decode()
    assert not Job.objects.exists()
    assert fill_in(as_admin, archive, where="place", confirm="web-1").status_code == 302
    assert Job.objects.get().payload == {
        **OTHERWISE, "paths": [], "entries": [], "where": "place", "directory": "", "server": archive.server_id,
    }  # fmt: skip


@pytest.mark.parametrize("more", [{"entry": [2]}, {"dry_run": "on"}, {"where": "beside"}])
def test_nothing_else_wants_it(as_admin: Client, archive: Archive, more: dict[str, Any]) -> None:
    assert fill_in(as_admin, archive, **{"where": "place", **more}).status_code == 302


def test_all_that_can_be_chosen_reaches_the_job(as_admin: Client, archive: Archive, other_server: Server) -> None:
    chosen = {"server": other_server.pk, "existing": "both", "owners": "False", "verify": "on"}
    assert fill_in(as_admin, archive, **chosen).status_code == 302
    expected = {"server": other_server.pk, "existing": "both", "owners": False, "verify": True, "directory": "/srv"}
    assert Job.objects.get().payload == {**OTHERWISE, "paths": [], "entries": [], **expected}


def test_only_servers_that_one_sees_are_offered(archive: Archive, other_server: Server) -> None:
    """Red where the page lists all of them."""
    client = page_of(holder("rita", Permission.BACKUP_VIEW, Permission.BACKUP_RESTORE))
    answer = client.get(f"/archives/{archive.pk}/restore")
    assert "db-1" not in answer.getvalue().decode()
    assert fill_in(client, archive, server=other_server.pk).status_code == 400


def test_what_a_look_found_is_shown_and_can_be_done(as_admin: Client, archive: Archive) -> None:
    fill_in(as_admin, archive, entry=[2], where="beside", dry_run="on")
    told = {
        "dry_run": True, "server": "web-1", "archive": archive.pk, "has_room": True, "needed": 1000, "free": 5000,
        "counts": {"new": 7, "same": 1, "differs": 2, "folders": 3}, "collisions": [["/etc/<b>", "differs"]],
        "warnings": ["mysqld is running"], "paths": [["/etc", "/etc.restored-1"]], "missing": [],
    }  # fmt: skip
    Job.objects.update(status="completed", result=told)
    html = as_admin.get(f"/jobs/{Job.objects.get().pk}").getvalue().decode()
    for words in (
        "What would happen on web-1",
        "/etc/&lt;b&gt;",
        "mysqld is running",
        "/etc.restored-1",
        "Restore it so",
    ):
        assert words in html
    assert '<input type="hidden" name="where" value="beside">' in html
    assert '<input type="hidden" name="entry" value="2">' in html


# --- The API ----------------------------------------------------------------------------------


def ask(client: APIClient, archive: Archive, body: Any) -> Any:
    """Send it as JSON text, so that it may hold what Python's own encoder would refuse."""
    return client.post(f"/api/archives/{archive.pk}/restore", json.dumps(body), content_type="application/json")


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        ({}, {"paths": [], "entries": []}),
        ({"paths": ["/etc", "home"]}, {"paths": ["/etc", "home"], "entries": []}),
        ({"entries": [2, 3]}, {"paths": [], "entries": [2, 3]}),
        ({"paths": None, "entries": None}, {"paths": [], "entries": []}),
    ],
)
def test_a_restore_is_queued_and_answered_with_202(
    api_admin: APIClient, admin: User, archive: Archive, body: dict[str, Any], payload: dict[str, Any]
) -> None:
    answer = ask(api_admin, archive, {"directory": "/srv/restore", **body})
    assert answer.status_code == 202
    job = Job.objects.get()
    assert answer.json()["id"] == str(job.pk)
    assert (job.type, job.user, job.trigger) == ("restore", admin, "api")
    assert job.payload == {**OTHERWISE, "directory": "/srv/restore", **payload}


@pytest.mark.parametrize(("directory", "sentence"), BAD_DIRECTORIES)
def test_the_api_refuses_a_bad_directory_in_words(
    api_admin: APIClient, archive: Archive, directory: str, sentence: str
) -> None:
    answer = ask(api_admin, archive, {"directory": directory})
    assert answer.status_code == 400
    assert sentence in str(answer.json()["error"]["fields"]["directory"])
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"entries": "2"}, "entries"), ({"entries": [2, "3"]}, "entries"), ({"entries": [True]}, "entries"),
        ({"entries": {"a": 1}}, "entries"), ({"entries": [2.5]}, "entries"), ({"entries": 2}, "entries"),
        ({"paths": 7}, "paths"), ({"paths": ["/etc", 7]}, "paths"), ({"paths": ["/a\0"]}, "paths"),
        ({"paths": ["/" + "x" * 5_000]}, "paths"), ({"direktory": "/x"}, "direktory"),
        ({"paths": ["/etc/../root"]}, "paths"), ({"paths": [".."]}, "paths"), ({"where": "elsewhere"}, "where"),
        ({"where": 1}, "where"), ({"existing": "delete"}, "existing"), ({"owners": "yes"}, "owners"),
        ({"owners": 1}, "owners"), ({"verify": "true"}, "verify"), ({"dry_run": 1}, "dry_run"),
        ({"server": 999}, "server"), ({"server": "1"}, "server"), ({"server": -1}, "server"),
        ({"server": 10**30}, "server"), ({"confirm": "web-1"}, "confirm"),
    ],
)  # fmt: skip
def test_the_api_refuses_it_in_words(api_admin: APIClient, archive: Archive, body: dict[str, Any], field: str) -> None:
    answer = ask(api_admin, archive, {"directory": "/srv", **body})
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {field}
    assert not Job.objects.exists()


@pytest.mark.parametrize("where", ["place", "beside"])
def test_without_a_directory_where_none_is_needed(api_admin: APIClient, archive: Archive, where: str) -> None:
    assert ask(api_admin, archive, {"where": where}).status_code == 202
    assert Job.objects.get().payload == {**OTHERWISE, "paths": [], "entries": [], "where": where, "directory": ""}


@pytest.mark.parametrize("body", [[], [1], [["directory", "/srv"]], "text", 7, None, True, {"directory": "/\ud800"}])
def test_a_body_that_is_no_object_of_text_is_a_bad_request(api_admin: APIClient, archive: Archive, body: Any) -> None:
    answer = ask(api_admin, archive, body)
    assert answer.status_code == 400
    assert not Job.objects.exists()


def test_what_stands_in_the_way_is_409(api_admin: APIClient, archive: Archive) -> None:
    Server.objects.update(host_key="")
    answer = ask(api_admin, archive, {"directory": "/srv"})
    assert answer.status_code == 409
    assert answer.json()["error"]["message"].startswith("Nobody has confirmed the host key of web-1 yet.")


def test_only_who_may_restore_starts_one(
    api_operator: APIClient, api_viewer: APIClient, api_admin: APIClient, archive: Archive
) -> None:
    for client in (api_operator, api_viewer):
        assert ask(client, archive, {"directory": "/srv"}).status_code == 403
    assert api_admin.get(f"/api/archives/{archive.pk}/restore").status_code == 405
    assert not Job.objects.exists()
