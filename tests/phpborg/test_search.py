"""The field that finds whatever has a name."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backups.models import Archive, Plan, Repository
from jobs.models import Job
from servers.models import Server
from tests.conftest import make_archive


def shown(answer: Any) -> dict[str, list[str]]:
    return {str(kind.label): [row.name for row in kind.rows] for kind in answer.context["found"]}


@pytest.fixture
def named(archive: Archive) -> Archive:
    """Each kind of thing has an apple in its name."""
    Server.objects.filter(pk=archive.server_id).update(name="apple-server")
    Plan.objects.update(name="apple-plan")
    Repository.objects.filter(pk=archive.repository_id).update(name="apple-repository")
    archive.name = "apple-2026"
    archive.save()
    return archive


def test_each_kind_of_thing_is_found_by_its_name(as_viewer: Client, named: Archive) -> None:
    assert shown(as_viewer.get("/search", {"q": "Apple"})) == {
        "Servers": ["apple-server"], "Plans": ["apple-plan"], "Repositories": ["apple-repository"],
        "Archives": ["apple-2026"],
    }  # fmt: skip


def test_a_server_is_found_by_its_address_too(as_viewer: Client, named: Archive) -> None:
    Server.objects.update(address="10.20.30.40")
    assert shown(as_viewer.get("/search", {"q": "20.30"})) == {"Servers": ["apple-server"]}


def test_the_one_thing_that_is_called_so_is_shown_at_once(as_viewer: Client, named: Archive) -> None:
    answer = as_viewer.get("/search", {"q": "apple-plan"})
    assert (answer.status_code, answer["Location"]) == (302, f"/plans/{named.plan_id}")


def test_a_job_is_found_by_its_number(as_viewer: Client) -> None:
    job = Job.objects.create(type="backup")
    assert as_viewer.get("/search", {"q": f" {job.pk} "})["Location"] == f"/jobs/{job.pk}"


def test_of_many_the_first_are_shown_and_the_way_to_all(as_viewer: Client, db: None) -> None:
    for number in range(10):
        Server.objects.create(name=f"web-{number}", address="10.0.0.1")
    answer = as_viewer.get("/search", {"q": "web"})
    assert len(shown(answer)["Servers"]) == 8
    assert 'href="/servers?search=web"' in answer.content.decode()
    assert len(as_viewer.get("/servers?search=web").context["rows"]) == 10


@pytest.mark.parametrize("text", ["", " ", "<script>alert(1)</script>", "\0", "%", "x" * 500, "é'\""])
def test_whatever_is_typed_is_text(as_viewer: Client, named: Archive, text: str) -> None:
    answer = as_viewer.get("/search", {"q": text})
    assert answer.status_code == 200
    assert shown(answer) == {}
    assert "<script>alert" not in answer.content.decode()
    assert ("Nothing has this name" in answer.content.decode()) == bool(text.strip(" \0"))


def test_it_takes_the_same_few_queries_however_much_there_is(as_viewer: Client, named: Archive) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            as_viewer.get("/search", {"q": "apple"})
        return len(found)

    queries()  # the first one also reads the live settings
    few = queries()
    assert named.plan
    for number in range(12):
        make_archive(named.plan, name=f"apple-{number}")
        Server.objects.create(name=f"apple-{number}", address="10.0.0.1")
    assert queries() == few <= 12


def test_what_is_sorted_is_not_joined(as_viewer: Client, named: Archive) -> None:
    """Red when rows are asked for with what they belong to: MariaDB may begin with that, and sort all archives: 5 s."""
    with CaptureQueriesContext(connection) as caught:
        as_viewer.get("/search", {"q": "apple"})
    limited = [sql["sql"] for sql in caught if "LIMIT 9" in sql["sql"]]
    assert len(limited) == 4
    assert [sql for sql in limited if " JOIN " in sql] == []
