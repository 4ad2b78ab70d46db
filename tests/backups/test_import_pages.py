"""Importing from the page, over the API and from the command line; what the job does is test_import_repository."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from accounts import encryption
from accounts.models import AuditEntry, User
from backups.models import Archive, Plan, Repository, StoragePool
from backups.runners.import_ import ImportRepository
from jobs.models import Job
from servers.models import Server
from tests.conftest import make_archive, run_now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]

PASSPHRASE = ' it\'s a "$(secret)" ☃ '
KEY = f"BORG_KEY {'ab' * 32}\nhqlhbGdvcml0aG2mc2hhMjU2\n"


@pytest.fixture
def sent(server: Server, pool: StoragePool) -> dict[str, Any]:
    return {"server": server.pk, "pool": pool.pk, "name": "old", "passphrase": PASSPHRASE, "key": ""}


def everything_stored() -> str:
    return f"{list(Job.objects.values())} {list(Repository.objects.values())} {list(AuditEntry.objects.values())}"


# --- Beginning --------------------------------------------------------------------------------


def test_the_page_begins_an_import(as_admin: Client, admin: User, sent: dict[str, Any]) -> None:
    answer = as_admin.post("/repositories/import", {**sent, "key": KEY.replace("\n", "\r\n")})
    repository, job = Repository.objects.get(), Job.objects.get()
    assert answer["Location"] == f"/repositories/{repository.pk}"
    assert (job.type, job.repository, job.server, job.user, job.payload) == (
        "import", repository, repository.server, admin, {},
    )  # fmt: skip
    assert (repository.state, repository.passphrase()) == ("creating", PASSPHRASE)
    assert encryption.decrypt(repository.key_encrypted) == KEY
    stored = everything_stored()
    assert PASSPHRASE.strip() not in stored
    assert "hqlhbGdvcml0" not in stored
    assert "The repository is being imported." in as_admin.get(answer["Location"]).getvalue().decode()


def test_the_api_begins_one_too(api_admin: APIClient, admin: User, sent: dict[str, Any]) -> None:
    answer = api_admin.post("/api/repositories/import", sent)
    assert answer.status_code == 202
    shown = answer.json()
    assert (shown["type"], shown["status"], shown["trigger"]) == ("import", "pending", "api")
    assert "secret" not in answer.content.decode()
    assert Repository.objects.get().passphrase() == PASSPHRASE
    assert Job.objects.get().user == admin


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_folder_becomes_a_storage_pool(
    as_admin: Client, admin: User, sent: dict[str, Any], tmp_path: Path, slash: str
) -> None:
    StoragePool.objects.update(name="old-ones")
    folder = tmp_path / "Old-Ones"
    answer = as_admin.post("/repositories/import", {**sent, "pool": "", "folder": f"{folder}{slash}"})
    assert answer.status_code == 302
    pool = Repository.objects.get().pool
    assert (pool.path, pool.name, pool.place) == (str(folder), "Old-Ones-2", "default")
    assert set(Job.objects.values_list("type", flat=True)) == {"import", "pool_check"}
    assert AuditEntry.objects.get(action="pool.added").user == admin


def test_a_folder_that_is_a_pool_already_is_that_pool(
    as_admin: Client, pool: StoragePool, sent: dict[str, Any]
) -> None:
    as_admin.post("/repositories/import", {**sent, "pool": "", "folder": f"{pool.path}/"})
    assert Repository.objects.get().pool == StoragePool.objects.get() == pool


BAD = [
    ({"server": "999"}, "server"),
    ({"server": ""}, "server"),
    ({"pool": "999"}, "pool"),
    ({"pool": ""}, "pool"),
    ({"folder": "/srv/x"}, "folder"),  # and the pool
    ({"pool": "", "folder": "srv"}, "folder"),
    ({"pool": "", "folder": "/srv/../etc"}, "folder"),
    ({"pool": "", "folder": "/srv/$(id)"}, "folder"),
    ({"pool": "", "folder": "/" + "x" * 300}, "folder"),
    ({"name": ""}, "name"),
    ({"name": ".."}, "name"),
    ({"name": "a/b"}, "name"),
    ({"name": "--option"}, "name"),
    ({"name": "x" * 61}, "name"),
    ({"passphrase": "a\0b"}, "passphrase"),
    ({"passphrase": "x" * 4097}, "passphrase"),
    ({"key": "nonsense"}, "key"),
    ({"key": "BORG_KEY abc\nxyz"}, "key"),
]


@pytest.mark.parametrize(("changes", "field"), BAD)
def test_the_page_refuses_it_in_words(
    as_admin: Client, sent: dict[str, Any], changes: dict[str, str], field: str
) -> None:
    answer = as_admin.post("/repositories/import", {**sent, **changes})
    assert answer.status_code == 400
    assert set(answer.context["form"].errors) == {field}
    assert "secret" not in answer.getvalue().decode()  # no value of a password field comes back
    assert not (Repository.objects.exists() or Job.objects.exists())


@pytest.mark.parametrize(("changes", "field"), BAD)
def test_the_api_refuses_it_in_words(
    api_admin: APIClient, sent: dict[str, Any], changes: dict[str, str], field: str
) -> None:
    changed = {name: value for name, value in {**sent, **changes}.items() if value != ""}
    answer = api_admin.post("/api/repositories/import", changed)
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {field}
    assert "secret" not in answer.content.decode()
    assert not (Repository.objects.exists() or Job.objects.exists())


@pytest.mark.parametrize("body", [[], "x", {"passphrase": {"a": 1}}, {"passphrase": "\ud800"}])
def test_the_api_refuses_what_is_no_such_object(api_admin: APIClient, sent: dict[str, Any], body: Any) -> None:
    body = {**sent, **body} if isinstance(body, dict) else body
    answer = api_admin.post("/api/repositories/import", json.dumps(body), content_type="application/json")
    assert answer.status_code == 400
    assert not Repository.objects.exists()


def test_a_key_never_comes_back_to_the_page(as_admin: Client, sent: dict[str, Any]) -> None:
    html = as_admin.post("/repositories/import", {**sent, "name": "", "key": KEY}).getvalue().decode()
    assert "hqlhbGdvcml0" not in html


def test_one_that_is_known_is_refused(
    as_admin: Client, api_admin: APIClient, repository: Repository, sent: dict[str, Any]
) -> None:
    before = Repository.objects.values().get()
    page = as_admin.post("/repositories/import", {**sent, "name": "web-1"})
    api = api_admin.post("/api/repositories/import", {**sent, "name": "web-1"})
    assert (page.status_code, api.status_code) == (400, 409)
    assert "The repository web-1 is known already." in page.getvalue().decode()
    assert api.json()["error"]["message"] == "The repository web-1 is known already."
    assert Repository.objects.values().get() == before


def test_a_plan_of_another_server_keeps_its_repository(
    as_admin: Client, plan: Plan, other_server: Server, sent: dict[str, Any]
) -> None:
    Repository.objects.update(state="failed")
    answer = as_admin.post("/repositories/import", {**sent, "name": "web-1", "server": other_server.pk})
    assert "The plan files of another server saves into web-1." in answer.getvalue().decode()
    assert Repository.objects.get().server == plan.server


def test_where_workers_are_in_several_places_a_pool_must_be_there_first(
    as_admin: Client, sent: dict[str, Any], settings: Any
) -> None:
    settings.WORKER_PLACES = ["here", "there"]
    assert "folder" not in as_admin.get("/repositories/import").context["form"].fields
    answer = as_admin.post("/repositories/import", {**sent, "pool": "", "folder": "/srv/old"})
    assert (answer.status_code, set(answer.context["form"].errors)) == (400, {"pool"})


# --- Who --------------------------------------------------------------------------------------


def test_only_who_manages_backups_imports(
    as_operator: Client, as_viewer: Client, api_operator: APIClient, api_viewer: APIClient, sent: dict[str, Any]
) -> None:
    for page in (as_operator, as_viewer):
        assert page.get("/repositories/import").status_code == 403
        assert page.post("/repositories/import", sent).status_code == 403
    for api in (api_operator, api_viewer):
        assert api.post("/api/repositories/import", sent).status_code == 403
    assert Client().post("/repositories/import", sent)["Location"].startswith("/login")
    assert not Repository.objects.exists()
    assert "/repositories/import" not in as_viewer.get("/repositories").getvalue().decode()


def test_wrong_methods_are_refused(as_admin: Client, api_admin: APIClient, repository: Repository) -> None:
    assert as_admin.put("/repositories/import").status_code == 405
    assert as_admin.get(f"/repositories/{repository.pk}/forget").status_code == 405
    assert api_admin.get("/api/repositories/import").status_code in (404, 405)


def test_it_asks_few_questions(
    as_admin: Client, sent: dict[str, Any], django_assert_max_num_queries: Any
) -> None:  # fmt: skip
    with django_assert_max_num_queries(12):
        as_admin.get("/repositories/import")
    with django_assert_max_num_queries(28):  # three of them write the audit trail
        as_admin.post("/repositories/import", sent)


# --- One that failed ----------------------------------------------------------------------------


@pytest.fixture
def failed(server: Server, pool: StoragePool) -> Repository:
    job = run_now(ImportRepository.begin(server=server, pool=pool, name="old", passphrase="x"))
    assert job.status == "failed"
    return Repository.objects.get(name="old")


def test_its_page_says_why_and_what_can_be_done(as_admin: Client, failed: Repository) -> None:
    html = as_admin.get(f"/repositories/{failed.pk}").getvalue().decode()
    assert f"{failed.path} does not exist on the worker&#x27;s machine." in html
    assert f"/repositories/import?repository={failed.pk}" in html
    assert f"/jobs/start/init/{failed.pk}" not in html
    form = as_admin.get(f"/repositories/import?repository={failed.pk}").context["form"]
    assert (form["server"].value(), form["pool"].value(), form["name"].value()) == (
        failed.server_id, failed.pool_id, "old",
    )  # fmt: skip


@pytest.mark.parametrize("number", ["", "x", "999", "-1", "9" * 30, "٣"])
def test_a_number_of_nothing_prefills_nothing(as_admin: Client, number: str) -> None:
    assert as_admin.get("/repositories/import", {"repository": number}).context["form"].initial == {}


def test_it_is_struck_off_without_a_trace(as_admin: Client, failed: Repository) -> None:
    folder = Path(failed.path)
    folder.mkdir()
    assert as_admin.post(f"/repositories/{failed.pk}/forget")["Location"] == "/repositories"
    assert not (Repository.objects.exists() or Job.objects.exists())
    assert folder.is_dir()
    assert AuditEntry.objects.get(action="repository.forgotten").target == "old"


def test_only_what_failed_is_struck_off_and_by_whom_may(
    as_admin: Client, as_operator: Client, plan: Plan, failed: Repository
) -> None:
    assert as_operator.post(f"/repositories/{failed.pk}/forget").status_code == 403
    ImportRepository.begin(server=failed.server, pool=failed.pool, name="old", passphrase="x")
    for pk in (plan.repository_id, failed.pk):  # one is ready, one is being imported
        as_admin.post(f"/repositories/{pk}/forget")
    Repository.objects.filter(pk=plan.repository_id).update(state="failed")
    page = as_admin.post(f"/repositories/{plan.repository_id}/forget", follow=True)
    assert "The plan files saves into it. Delete that first." in page.getvalue().decode()
    assert Repository.objects.count() == 2


def test_what_is_not_there_is_404(as_admin: Client) -> None:
    assert as_admin.post("/repositories/999/forget").status_code == 404


# --- The plan that is proposed ------------------------------------------------------------------


@pytest.fixture
def old_archive(plan: Plan) -> Archive:
    archive = make_archive(plan, command_line="borg create -C zstd,3 --pattern x -x r::a /srv '/<b>' --exclude '*.tmp'")
    Archive.objects.update(plan=None)
    plan.delete()
    return archive


def test_the_repositorys_page_leads_to_the_plan(as_admin: Client, as_viewer: Client, old_archive: Archive) -> None:
    repository, server = old_archive.repository, old_archive.server
    Repository.objects.create(name="a-first-one", pool=repository.pool, server=server, state="ready")
    html = as_admin.get(f"/repositories/{repository.pk}").getvalue().decode()
    assert "/&lt;b&gt;" in html
    assert "--pattern x" in html
    url = f"/servers/{server.pk}/plans/add?like={repository.pk}"
    assert url in html
    assert url not in as_viewer.get(f"/repositories/{repository.pk}").getvalue().decode()
    forms = as_admin.get(url).context["forms"]
    assert forms.plan["repository"].value() == repository.pk
    assert forms.plan["compression"].value() == "zstd,3"
    assert forms.files["paths"].value() == "/srv\n/<b>"
    assert (forms.files["excludes"].value(), forms.files["one_file_system"].value()) == ("*.tmp", True)
    assert forms.files["exclude_caches"].value() is False


@pytest.mark.parametrize("like", ["", "x", "999", "9" * 30])
def test_without_a_repository_the_form_is_as_ever(as_admin: Client, server: Server, like: str) -> None:
    forms = as_admin.get(f"/servers/{server.pk}/plans/add", {"like": like}).context["forms"]
    assert forms.files["paths"].value() is None


def test_a_repository_of_another_server_proposes_nothing(
    as_admin: Client, other_server: Server, old_archive: Archive
) -> None:
    url = f"/servers/{other_server.pk}/plans/add?like={old_archive.repository_id}"
    assert as_admin.get(url).context["forms"].files["paths"].value() is None


# --- The command --------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        call_command("import_repository", *words)
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_the_command_reads_the_passphrase_from_a_file(
    server: Server, pool: StoragePool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "passphrase").write_text(f"{PASSPHRASE}\n")
    (tmp_path / "key").write_text(KEY)
    code, out, err = told(
        capsys, "disk/old", "--server", "web-1", "--passphrase-file", str(tmp_path / "passphrase"), "--key-file",
        str(tmp_path / "key"), "--json",
    )  # fmt: skip
    (shown,) = json.loads(out)
    assert (code, err, shown["type"], shown["status"]) == (0, "", "import", "pending")
    repository = Repository.objects.get()
    assert (repository.name, repository.pool, repository.server) == ("old", pool, server)
    assert (repository.passphrase(), encryption.decrypt(repository.key_encrypted)) == (PASSPHRASE, KEY)


def test_or_from_standard_input_and_the_repository_by_its_path(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe\r\n"))
    assert told(capsys, f"{tmp_path}/old/", "--server", "web-1")[0] == 0
    repository = Repository.objects.get()
    assert (repository.path, repository.passphrase()) == (f"{tmp_path}/old", "from a pipe")


def test_or_asks_for_it_on_a_terminal(
    server: Server, pool: StoragePool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("backups.management.commands.import_repository.getpass", lambda _: "typed ")
    assert told(capsys, "disk/old", "--server", "web-1")[0] == 0
    assert Repository.objects.get().passphrase() == "typed "


def test_what_is_refused_is_exit_code_1(
    repository: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x"))
    code, out, err = told(capsys, "disk/web-1", "--server", "web-1")
    assert (code, out, err) == (1, "", "The repository web-1 is known already.\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["disk/old", "--server", "web-2"], "There is no server “web-2”."),
        (["tape/old", "--server", "web-1"], "There is no storage pool “tape”."),
        (["old", "--server", "web-1"], "Say where “old” lies: as pool/old, or by its path."),
        (["disk/--x", "--server", "web-1"], "name: Use letters, digits, dots, dashes and underscores"),
        (["disk/old", "--server", "web-1", "--passphrase-file", "/nowhere"], "/nowhere cannot be read: No such file"),
        (["disk/old", "--server", "web-1", "--key-file", "/etc/hostname"], "key: This is no key file"),
    ],
)
def test_what_is_not_understood_is_exit_code_2(
    server: Server, pool: StoragePool, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x"))
    with pytest.raises(CommandError) as error:
        call_command("import_repository", *words)
    assert str(error.value).startswith(sentence)
    assert error.value.returncode == 2
    assert not Repository.objects.exists()
