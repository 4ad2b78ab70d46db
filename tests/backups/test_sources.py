"""Sources over the API, and the parameters that each kind asks for."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from backups.models import Plan, Source
from backups.sources.base import Prepared, SourceKind, join
from backups.sources.files import FilesForm
from servers.models import Server
from tests.fakes import FakeMachine

pytestmark = pytest.mark.django_db

EMPTY = "Enter at least one path. Nothing is never taken to mean everything."
BAD_PARAMETERS: list[tuple[str, Any, str]] = [
    ("paths", [], EMPTY),
    ("paths", None, EMPTY),
    ("paths", "", "This must be a list of texts."),
    ("paths", ["", "   "], EMPTY),
    ("paths", 7, "This must be a list of texts."),
    ("paths", {"a": "/b"}, "This must be a list of texts."),
    ("paths", ["/etc", 7], "This must be a list of texts."),
    ("paths", [["/etc"]], "This must be a list of texts."),
    ("paths", ["etc"], "“etc” does not begin with /."),
    ("paths", [" /etc"], "“ /etc” does not begin with /."),
    ("paths", ["--option"], "“--option” does not begin with /."),
    ("paths", ["/etc/../root"], "“/etc/../root” has a “.” or “..” in it."),
    ("paths", ["/./etc"], "“/./etc” has a “.” or “..” in it."),
    ("paths", ["/etc\0"], "has a character that cannot be part of a path."),
    ("paths", ["/\ud800"], "“/\\ud800” has a character that cannot be part of a path."),
    ("paths", ["/" + "x" * 4096], "is longer than 4096 bytes."),
    ("paths", ["/" + "é" * 2048], "is longer than 4096 bytes."),
    ("paths", [f"/{number}" for number in range(1001)], "These are more than 1000 lines."),
    ("excludes", ["xx:/a"], "“xx:” is no style of pattern that borg knows (fm:, sh:, re:, pp:, pf:)."),
    ("excludes", ["sh:"], "The pattern “sh:” is empty."),
    ("excludes", 7, "This must be a list of texts."),
    ("excludes", ["a\0"], "has a character that cannot be part of a path."),
]
GOOD_PARAMETERS: list[tuple[str, Any]] = [
    ("paths", ["/"]),
    ("paths", ["/etc", '/home/it\'s "here" $(id)', "/a\nb", "/😀", "/-rf", "/a ", "/..."]),
    ("paths", ["/" + "x" * 4095]),
    ("excludes", ["*.tmp", "sh:/home/*/.cache", "re:^/var/.*$", "pp:/a", "pf:/a", "fm:*", "--exclude", "C:\\x", "a:b"]),
]


@pytest.fixture
def sent(server: Server) -> dict[str, Any]:
    return {"name": "etc", "server": server.pk, "kind": "files", "parameters": {"paths": ["/etc"]}}


def fields(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 400
    found: dict[str, Any] = answer.json()["error"]["fields"]
    return found


# --- Adding -----------------------------------------------------------------------------------


def test_a_source_is_added_with_every_parameter_filled_in(api_admin: APIClient, sent: dict[str, Any]) -> None:
    answer = api_admin.post("/api/sources", sent)
    assert answer.status_code == 201
    assert answer.json()["parameters"] == {
        "paths": ["/etc"], "excludes": [], "one_file_system": False, "exclude_caches": False,
    }  # fmt: skip
    assert AuditEntry.objects.get(action="source.added").target == "etc"


@pytest.mark.parametrize(("name", "value", "sentence"), BAD_PARAMETERS)
def test_a_bad_parameter_is_refused_where_it_stands(
    api_admin: APIClient, sent: dict[str, Any], name: str, value: Any, sentence: str
) -> None:
    body = json.dumps({**sent, "parameters": {"paths": ["/etc"], name: value}})
    found = fields(api_admin.post("/api/sources", body, content_type="application/json"))
    assert set(found) == {"parameters"}
    assert set(found["parameters"]) == {name}
    assert sentence in found["parameters"][name][0]
    assert not Source.objects.exists()


@pytest.mark.parametrize(("name", "value"), GOOD_PARAMETERS)
def test_what_borg_takes_is_kept_as_it_stands(
    api_admin: APIClient, sent: dict[str, Any], name: str, value: list[str]
) -> None:
    answer = api_admin.post("/api/sources", {**sent, "parameters": {"paths": ["/etc"], name: value}})
    assert answer.status_code == 201
    assert Source.objects.get().parameters[name] == value


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"kind": "tape"}, "kind", "There is no kind of source “tape”."),
        ({"kind": "<script>"}, "kind", "There is no kind of source “<script>”."),
        ({"kind": ""}, "kind", "blank"),
        ({"parameters": "x"}, "parameters", "This must be an object."),
        ({"parameters": None}, "parameters", "null"),
        ({"name": "a b"}, "name", "Use letters"),
        ({"name": ""}, "name", "blank"),
        ({"server": 999}, "server", "does not exist"),
        ({"server": None}, "server", "null"),
    ],
)
def test_bad_input_is_refused_in_words(
    api_admin: APIClient, sent: dict[str, Any], changes: dict[str, Any], field: str, sentence: str
) -> None:
    found = fields(api_admin.post("/api/sources", {**sent, **changes}))
    assert sentence in str(found[field])
    assert not Source.objects.exists()


def test_an_unknown_parameter_is_refused_by_name(api_admin: APIClient, sent: dict[str, Any]) -> None:
    found = fields(api_admin.post("/api/sources", {**sent, "parameters": {"paths": ["/etc"], "pathes": ["/x"]}}))
    assert found == {"parameters": {"pathes": ["There is no such parameter."]}}


def test_without_parameters_nothing_is_made(api_admin: APIClient, sent: dict[str, Any]) -> None:
    del sent["parameters"]
    assert fields(api_admin.post("/api/sources", sent)) == {"parameters": ["This field is required."]}


def test_a_name_is_taken_once_on_a_server(api_admin: APIClient, sent: dict[str, Any], other_server: Server) -> None:
    assert api_admin.post("/api/sources", sent).status_code == 201
    assert "must make a unique set" in str(fields(api_admin.post("/api/sources", sent)))
    assert api_admin.post("/api/sources", {**sent, "server": other_server.pk}).status_code == 201


# --- Changing and deleting --------------------------------------------------------------------


def test_parameters_are_replaced_whole(api_admin: APIClient, plan: Plan) -> None:
    source = plan.sources.get()
    answer = api_admin.patch(f"/api/sources/{source.pk}", {"parameters": {"paths": ["/srv"]}})
    assert answer.status_code == 200
    source.refresh_from_db()
    assert source.parameters["paths"] == ["/srv"]
    assert source.parameters["excludes"] == []
    detail = AuditEntry.objects.get(action="source.changed").detail
    assert detail["before"] == {"parameters.paths": ["/etc"], "parameters.excludes": ["*.tmp"]}
    assert detail["after"]["parameters.paths"] == ["/srv"]


def test_bad_parameters_change_nothing(api_admin: APIClient, plan: Plan) -> None:
    source = plan.sources.get()
    fields(api_admin.patch(f"/api/sources/{source.pk}", {"parameters": {"paths": []}}))
    source.refresh_from_db()
    assert source.parameters["paths"] == ["/etc"]


def test_a_source_that_a_plan_saves_stays_on_its_server(api_admin: APIClient, plan: Plan, other_server: Server) -> None:
    source = plan.sources.get()
    found = fields(api_admin.patch(f"/api/sources/{source.pk}", {"server": other_server.pk}))
    assert set(found) == {"server"}
    source.refresh_from_db()
    assert source.server == plan.server


def test_a_source_that_no_plan_saves_may_move(api_admin: APIClient, sent: dict[str, Any], other_server: Server) -> None:
    made = api_admin.post("/api/sources", sent).json()["id"]
    assert api_admin.patch(f"/api/sources/{made}", {"server": other_server.pk}).status_code == 200


def test_a_source_that_a_plan_saves_is_not_deleted(api_admin: APIClient, plan: Plan) -> None:
    answer = api_admin.delete(f"/api/sources/{plan.sources.get().pk}")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "The plan files saves this source. Take it out there first."


def test_a_source_without_a_plan_is_deleted_and_audited(
    api_admin: APIClient, admin: User, sent: dict[str, Any]
) -> None:
    made = api_admin.post("/api/sources", sent).json()["id"]
    assert api_admin.delete(f"/api/sources/{made}").status_code == 204
    assert AuditEntry.objects.get(action="source.deleted").user == admin


# --- Who --------------------------------------------------------------------------------------


def test_only_who_manages_backups_changes_sources(
    api_operator: APIClient, api_viewer: APIClient, plan: Plan, sent: dict[str, Any]
) -> None:
    one = f"/api/sources/{plan.sources.get().pk}"
    for client in (api_operator, api_viewer):
        assert client.post("/api/sources", {**sent, "name": "x"}).status_code == 403
        assert client.put(one, sent).status_code == 403
        assert client.patch(one, {}).status_code == 403
        assert client.delete(one).status_code == 403
        assert client.get(one).status_code == 200
    assert api_viewer.get("/api/sources/999").status_code == 404


# --- As the page writes them, and as borg gets them --------------------------------------------


def test_a_page_writes_one_path_per_line() -> None:
    form = FilesForm({"paths": "/etc\r\n\r\n/home/a b\n", "excludes": "*.tmp\r\n", "exclude_caches": "on"})
    assert form.is_valid()
    assert form.cleaned_data == {
        "paths": ["/etc", "/home/a b"], "excludes": ["*.tmp"], "one_file_system": False, "exclude_caches": True,
    }  # fmt: skip


def test_a_page_without_a_path_is_told_the_sentence() -> None:
    assert FilesForm({"paths": " \n "}).errors["paths"] == [EMPTY]


def test_a_page_shows_one_path_per_line() -> None:
    assert "/etc\n/home</textarea>" in str(FilesForm(initial={"paths": ["/etc", "/home"]})["paths"])


def test_a_source_becomes_what_create_is_told() -> None:
    kind = SourceKind.registry["files"]
    parameters = {"paths": ["/etc"], "excludes": ["*.tmp"], "one_file_system": True}
    with kind.prepare(FakeMachine(), parameters, lambda: None) as prepared:
        assert prepared == Prepared(("/etc",), ("*.tmp",), one_file_system=True, exclude_caches=False)
    assert kind.describe(parameters) == "/etc"


def test_all_sources_of_a_plan_become_one_create_without_doubles() -> None:
    joined = join([Prepared(("/a", "/b"), ("x",)), Prepared(("/b", "/c"), ("x", "y"), exclude_caches=True)])
    assert joined == Prepared(("/a", "/b", "/c"), ("x", "y"), exclude_caches=True)
