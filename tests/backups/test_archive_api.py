from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from backups import catalog
from backups.models import Archive, Plan
from jobs.models import Job
from tests.backups.replay import entry
from tests.conftest import make_archive

pytestmark = pytest.mark.django_db


@pytest.fixture
def indexed(archive: Archive) -> Archive:
    catalog.build(
        archive,
        [
            entry(b"etc/"), entry(b"etc/hosts", size=7), entry(b"etc/a b/c"), entry("etc/été".encode()),
            entry(b"etc/odd\xff"), *(entry(b"many/%04d" % n) for n in range(250)),
            entry(b"link", mode="lrwxrwxrwx", link=b"etc"),
        ],
    )  # fmt: skip
    return archive


def files(client: APIClient, archive: Archive, query: str = "") -> Any:
    answer = client.get(f"/api/archives/{archive.pk}/files{query}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def names(page: Any) -> list[str]:
    return [row["name"] for row in page["results"]]


# --- Files: a folder --------------------------------------------------------------------------


def test_without_a_path_the_top_is_listed(api_viewer: APIClient, indexed: Archive) -> None:
    page = files(api_viewer, indexed)
    assert names(page) == ["etc", "many", "link"]
    assert (page["path"], page["count"], page["next"], page["previous"]) == ("", 3, None, None)


@pytest.mark.parametrize("path", ["etc", "/etc", "etc/", "//etc//"])
def test_a_folder_is_named_by_its_path(api_viewer: APIClient, indexed: Archive, path: str) -> None:
    assert names(files(api_viewer, indexed, f"?path={quote(path)}")) == ["a b", "hosts", "odd\\xff", "été"]


@pytest.mark.parametrize("path", ["etc/a b", "/etc/a b/"])
def test_a_path_may_have_any_character(api_viewer: APIClient, indexed: Archive, path: str) -> None:
    assert names(files(api_viewer, indexed, f"?path={quote(path)}")) == ["c"]


def test_each_entry_tells_what_ls_would(api_viewer: APIClient, indexed: Archive) -> None:
    row = next(row for row in files(api_viewer, indexed, "?path=etc")["results"] if row["name"] == "hosts")
    assert isinstance(row.pop("id"), int)
    assert row == {
        "name": "hosts", "kind": "-", "mode": "-rw-r--r--", "owner": "root", "group": "root", "size": 7,
        "modified_at": None, "link": "", "healthy": True,
    }  # fmt: skip


@pytest.mark.parametrize("path", ["nothing", "etc/hosts", "etc/nothing", "link", "..", "etc/../etc"])
def test_what_is_no_folder_is_404(api_viewer: APIClient, indexed: Archive, path: str) -> None:
    answer = api_viewer.get(f"/api/archives/{indexed.pk}/files?path={quote(path)}")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "There is no such folder in the archive."


# --- Files: pages and searches ----------------------------------------------------------------


def test_a_large_folder_is_paged(api_viewer: APIClient, indexed: Archive) -> None:
    first = files(api_viewer, indexed, "?path=many")
    assert (first["count"], len(first["results"]), first["previous"]) == (250, 100, None)
    second = api_viewer.get(first["next"]).json()
    third = api_viewer.get(second["next"]).json()
    assert (names(second)[0], names(third), third["next"]) == ("0100", [f"{n:04}" for n in range(200, 250)], None)
    assert "page=2" in third["previous"]


def test_a_page_may_be_smaller_or_larger(api_viewer: APIClient, indexed: Archive) -> None:
    assert names(files(api_viewer, indexed, "?path=many&page_size=2&page=3")) == ["0004", "0005"]
    assert len(files(api_viewer, indexed, "?path=many&page_size=1000")["results"]) == 250
    assert files(api_viewer, indexed, "?path=many&page=1000000")["results"] == []


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", "page=x", "page=1.5", "page=", f"page={10**30}", "page=1000001", "page=%C2%B2", "page_size=0",
     "page_size=1001", "page_size=all"],
)  # fmt: skip
def test_a_page_that_cannot_be_is_refused_in_words(api_viewer: APIClient, indexed: Archive, query: str) -> None:
    answer = api_viewer.get(f"/api/archives/{indexed.pk}/files?{query}")
    assert answer.status_code == 400
    field = query.partition("=")[0]
    assert answer.json()["error"]["fields"][field][0].startswith("This must be a whole number from 1 to ")


def test_a_search_looks_everywhere_by_name(api_viewer: APIClient, indexed: Archive) -> None:
    assert names(files(api_viewer, indexed, "?search=hos")) == ["hosts"]
    assert names(files(api_viewer, indexed, f"?search={quote('été')}")) == ["été"]
    assert names(files(api_viewer, indexed, "?search=%25")) == []
    page = files(api_viewer, indexed, "?search=00&page_size=5&page=2")
    assert (page["count"], len(page["results"])) == (102, 5)
    assert "search=00" in page["next"]


def test_a_parameter_with_a_typo_is_refused(api_viewer: APIClient, indexed: Archive) -> None:
    answer = api_viewer.get(f"/api/archives/{indexed.pk}/files?paht=etc")
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"] == {"paht": ["There is no such filter here."]}


def test_before_the_listing_is_read_it_is_409(api_viewer: APIClient, archive: Archive) -> None:
    answer = api_viewer.get(f"/api/archives/{archive.pk}/files")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "The listing of this archive has not been read yet."


# --- Index ------------------------------------------------------------------------------------


def test_reading_the_listing_is_queued(api_viewer: APIClient, viewer: User, archive: Archive) -> None:
    answer = api_viewer.post(f"/api/archives/{archive.pk}/index")
    job = Job.objects.get()
    assert (answer.status_code, answer.json()["id"]) == (202, str(job.pk))
    assert (job.type, job.subject, job.user, job.trigger) == ("index", f"archive:{archive.pk}", viewer, "api")
    assert api_viewer.post(f"/api/archives/{archive.pk}/index").status_code == 409


# --- The list ---------------------------------------------------------------------------------


def listed(client: APIClient, query: str = "") -> list[str]:
    answer = client.get(f"/api/archives{query}")
    assert answer.status_code == 200, answer.content
    return [row["name"] for row in answer.json()["results"]]


@pytest.fixture
def four(plan: Plan, second_plan: Plan) -> None:
    now = timezone.now().replace(microsecond=0)
    for number, owner in enumerate((plan, plan, plan, second_plan)):
        start = now - timedelta(days=number)
        make_archive(owner, name=f"a{number}", start=start, suspicion="Odd." if number == 1 else "", pinned=number == 2)


@pytest.mark.usefixtures("four")
def test_archives_are_listed_newest_first_and_filtered(api_viewer: APIClient, plan: Plan, second_plan: Plan) -> None:
    day = quote((timezone.now() - timedelta(days=1, hours=12)).isoformat())
    assert listed(api_viewer) == ["a0", "a1", "a2", "a3"]
    assert listed(api_viewer, f"?plan={second_plan.pk}") == ["a3"]
    assert listed(api_viewer, f"?server={plan.server_id}") == ["a0", "a1", "a2", "a3"]
    assert listed(api_viewer, "?server=999") == []
    assert listed(api_viewer, f"?repository={plan.repository_id}&suspicious=true") == ["a1"]
    assert listed(api_viewer, "?suspicious=false&pinned=false") == ["a0", "a3"]
    assert listed(api_viewer, f"?since={day}") == ["a0", "a1"]
    assert listed(api_viewer, f"?until={day}") == ["a2", "a3"]
    assert listed(api_viewer, "?search=A3") == ["a3"]
    assert listed(api_viewer, "?page_size=1&page=2") == ["a1"]


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("query", "count"),
    [("", 4), ("suspicious=true", 1), ("suspicious=false", 3), ("pinned=true", 1), ("pinned=false", 3),
     ("suspicious=false&pinned=false", 2), ("search=a", 4), ("search=a&pinned=false", 3),
     ("ordering=start&pinned=false", 3), ("since={9}", 4), ("since={2}", 3), ("since={0}", 1), ("since={tomorrow}", 0),
     ("until={9}", 0), ("until={2}", 1), ("until={0}", 3), ("until={tomorrow}", 4)],
)  # fmt: skip
def test_the_count_is_right_however_it_is_counted(api_viewer: APIClient, query: str, count: int) -> None:
    noon = timezone.now() - timedelta(hours=12)
    days = [quote((noon - timedelta(days=ago)).isoformat()) for ago in range(10)]
    query = query.format(*days, tomorrow=quote((noon + timedelta(days=1)).isoformat()))
    assert api_viewer.get(f"/api/archives?page_size=1&{query}").json()["count"] == count


@pytest.mark.usefixtures("four")
def test_most_are_counted_by_the_few_that_are_left_out(api_viewer: APIClient) -> None:
    early = quote((timezone.now() - timedelta(days=2, hours=12)).isoformat())
    for query, left_out in {
        "suspicious=false": "IN (1)",
        "pinned=false": "IN (1)",
        f"since={early}": '"start" <',
    }.items():
        with CaptureQueriesContext(connection) as asked:
            assert api_viewer.get(f"/api/archives?{query}").json()["count"] == 3
        (count,) = [
            one["sql"] for one in asked.captured_queries if "COUNT(*)" in one["sql"] and "archive" in one["sql"]
        ]
        assert left_out in count.replace("`", '"')


@pytest.mark.usefixtures("four")
def test_a_search_is_by_name_the_newest_of_each_first(api_viewer: APIClient, plan: Plan) -> None:
    now = timezone.now()
    for name in ("web-2", "web-1"):
        for days in (2, 1):
            make_archive(plan, name=name, start=now - timedelta(days=days))
    rows = api_viewer.get("/api/archives?search=web").json()["results"]
    told = [(row["name"], row["start"]) for row in rows]
    assert len(told) == 4
    assert told == sorted(told, reverse=True)
    assert listed(api_viewer, "?search=web&ordering=start")[::2] == ["web-2", "web-2"]


@pytest.mark.parametrize(
    ("query", "field"), [("since=yesterday", "since"), ("server=x", "server"), ("serevr=1", "serevr")]
)
def test_a_filter_that_makes_no_sense_is_refused(api_viewer: APIClient, query: str, field: str) -> None:
    answer = api_viewer.get(f"/api/archives?{query}")
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {field}


def test_one_archive_tells_everything(api_viewer: APIClient, archive: Archive) -> None:
    assert archive.plan
    shown = api_viewer.get(f"/api/archives/{archive.pk}").json()
    assert (shown["id"], shown["plan"], shown["files"]) == (archive.pk, archive.plan.pk, 100)
    assert (shown["suspicion"], shown["pinned"], shown["indexed_at"]) == ("", False, None)


def test_archives_are_neither_made_nor_deleted_as_rows(api_admin: APIClient, archive: Archive) -> None:
    for method, path in (("post", "/api/archives"), ("delete", f"/api/archives/{archive.pk}")):
        assert getattr(api_admin, method)(path, {}).status_code == 405
    assert Archive.objects.exists()


def test_what_is_not_there_is_404(api_viewer: APIClient, archive: Archive) -> None:
    for path in ("", "/files", f"{10**30}"):
        assert api_viewer.get(f"/api/archives/999{path}").status_code == 404
    assert api_viewer.post("/api/archives/999/index").status_code == 404


def test_who_has_no_role_sees_none(django_user_model: type[User], indexed: Archive) -> None:
    client = APIClient()
    client.force_authenticate(django_user_model.objects.create_user("nobody"))
    for path in ("/api/archives", f"/api/archives/{indexed.pk}", f"/api/archives/{indexed.pk}/files"):
        assert client.get(path).status_code == 403
