"""The page of a plan: one form for the plan, its files and, if wanted, a new repository."""

import re
from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEntry, User
from backups.forms import free_name
from backups.models import Plan, Repository, RetentionPolicy, Source, StoragePool
from jobs.models import Job
from servers.models import Server

pytestmark = pytest.mark.django_db

CHOOSE_ONE = "Choose one repository: the existing one, or a new one."
CHOOSE_ANY = "Choose a repository, or a storage pool to make one in."
COMPRESSION = "Enter none, lz4, zstd, zlib or lzma, with a level if you like (zstd,9)."


@pytest.fixture
def sent(repository: Repository) -> dict[str, Any]:
    """What somebody types who adds a plan into the existing repository."""
    return {
        "name": "home", "repository": repository.pk, "new_repository_in": "", "compression": "zstd,9",
        "upload_kib_per_second": "0", "retention": "", "enabled": "on", "files-paths": "/home\r\n/srv\r\n",
        "files-excludes": "*.tmp", "files-exclude_caches": "on",
    }  # fmt: skip


def add(client: Client, server: Server, sent: dict[str, Any]) -> Any:
    return client.post(f"/servers/{server.pk}/plans/add", sent)


def errors(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 400
    forms = answer.context["forms"]
    return {**forms.plan.errors, **forms.files.errors}


def nothing_was_made() -> bool:
    return not (Plan.objects.exists() or Source.objects.exists() or Job.objects.exists())


# --- Adding -----------------------------------------------------------------------------------


def test_a_plan_is_made_with_its_source(as_admin: Client, server: Server, sent: dict[str, Any]) -> None:
    answer = add(as_admin, server, sent)
    plan = Plan.objects.get()
    assert answer["Location"] == f"/plans/{plan.pk}"
    assert (plan.name, plan.server, plan.compression, plan.enabled) == ("home", server, "zstd,9", True)
    source = plan.sources.get()
    assert (source.name, source.server, source.kind) == ("home", server, "files")
    assert source.parameters == {
        "paths": ["/home", "/srv"], "excludes": ["*.tmp"], "one_file_system": False, "exclude_caches": True,
    }  # fmt: skip
    assert not Job.objects.exists()


def test_a_plan_may_bring_its_own_repository(
    as_admin: Client, admin: User, server: Server, pool: StoragePool, sent: dict[str, Any]
) -> None:
    Repository.objects.all().delete()
    add(as_admin, server, {**sent, "repository": "", "new_repository_in": pool.pk})
    plan, job = Plan.objects.get(), Job.objects.get()
    assert (plan.repository.name, plan.repository.pool, plan.repository.server) == ("web-1", pool, server)
    assert (job.type, job.repository, job.user) == ("init", plan.repository, admin)


def test_a_new_repository_takes_a_free_name(
    as_admin: Client, server: Server, pool: StoragePool, sent: dict[str, Any]
) -> None:
    add(as_admin, server, {**sent, "repository": "", "new_repository_in": pool.pk})
    assert Plan.objects.get().repository.name == "web-1-2"


def test_adding_is_audited(as_admin: Client, admin: User, server: Server, sent: dict[str, Any]) -> None:
    add(as_admin, server, sent)
    entry = AuditEntry.objects.get(action="plan.added")
    assert (entry.user, entry.target) == (admin, "web-1/home")


def test_the_empty_form_suggests_what_is_usual(as_admin: Client, repository: Repository, pool: StoragePool) -> None:
    standard = RetentionPolicy.objects.create(name="A standard")
    form = as_admin.get(f"/servers/{repository.server_id}/plans/add").context["forms"].plan
    assert form.initial["repository"] == repository
    assert form.initial["retention"] == standard
    Repository.objects.all().delete()
    form = as_admin.get(f"/servers/{repository.server_id}/plans/add").context["forms"].plan
    assert form.initial["new_repository_in"] == pool


def test_without_a_pool_the_page_says_where_to_begin(as_admin: Client, server: Server) -> None:
    html = as_admin.get(f"/servers/{server.pk}/plans/add").getvalue().decode()
    assert "There is no storage pool yet, so there is nowhere to save to." in html


# --- Refused in words -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", "", "This field is required."),
        ("name", "a b", "Use letters, digits"),
        ("name", "--option", "Use letters, digits"),
        ("name", "x" * 61, "60 characters"),
        ("compression", "brotli", COMPRESSION),
        ("compression", "zstd,23", COMPRESSION),
        ("compression", "zlib,10", COMPRESSION),
        ("compression", "lz4,1", COMPRESSION),
        ("compression", "zstd,9 --exclude=/", COMPRESSION),
        ("compression", "$(id)", COMPRESSION),
        ("compression", "lz4\nzstd", COMPRESSION),
        ("compression", "", "This field is required."),
        ("upload_kib_per_second", "-1", "greater than or equal to 0."),
        ("upload_kib_per_second", "fast", "Enter a whole number."),
        ("upload_kib_per_second", "9" * 30, "less than or equal to"),
        ("retention", "999", "not one of the available choices."),
        ("repository", "999", "not one of the available choices."),
        ("new_repository_in", "999", "not one of the available choices."),
        ("files-paths", "", "Enter at least one path. Nothing is never taken to mean everything."),
        ("files-paths", "\r\n  \r\n", "Enter at least one path. Nothing is never taken to mean everything."),
        ("files-paths", "home", "“home” does not begin with /."),
        ("files-paths", "/home\r\n/../etc", "“/../etc” has a “.” or “..” in it."),
        ("files-excludes", "zz:x", "is no style of pattern that borg knows"),
    ],
)
def test_bad_input_is_refused_in_words_at_the_field(
    as_admin: Client, server: Server, sent: dict[str, Any], field: str, value: str, sentence: str
) -> None:
    found = errors(add(as_admin, server, {**sent, field: value}))
    assert sentence in str(found[field.removeprefix("files-")])
    assert nothing_was_made()


@pytest.mark.parametrize(
    "compression", ["none", "lz4", "zstd", "zstd,1", "zstd,22", "zlib,0", "lzma,9", "auto,zstd,3", "auto,lz4"]
)
def test_every_compression_of_borg_is_taken(
    as_admin: Client, server: Server, sent: dict[str, Any], compression: str
) -> None:
    assert add(as_admin, server, {**sent, "compression": compression}).status_code == 302


def test_one_repository_is_chosen_not_two(
    as_admin: Client, server: Server, pool: StoragePool, sent: dict[str, Any]
) -> None:
    found = errors(add(as_admin, server, {**sent, "new_repository_in": pool.pk}))
    assert found == {"new_repository_in": [CHOOSE_ONE]}
    assert nothing_was_made()


def test_one_repository_is_chosen_not_none(as_admin: Client, server: Server, sent: dict[str, Any]) -> None:
    assert errors(add(as_admin, server, {**sent, "repository": ""})) == {"repository": [CHOOSE_ANY]}
    assert nothing_was_made()


def test_the_repository_of_another_server_is_no_choice(
    as_admin: Client, server: Server, other_server: Server, pool: StoragePool, sent: dict[str, Any]
) -> None:
    other = Repository.objects.create(name="db-1", pool=pool, server=other_server, state="ready")
    found = errors(add(as_admin, server, {**sent, "repository": other.pk}))
    assert "not one of the available choices." in str(found["repository"])
    assert nothing_was_made()


def test_a_server_has_a_plan_of_one_name_once(
    as_admin: Client, plan: Plan, other_server: Server, pool: StoragePool, sent: dict[str, Any]
) -> None:
    answer = add(as_admin, plan.server, {**sent, "name": "files"})
    assert "already exists." in str(errors(answer))
    assert "already exists." in re.sub(r"\s+", " ", answer.getvalue().decode())
    assert (Plan.objects.count(), Source.objects.count()) == (1, 1)
    fresh = {**sent, "name": "files", "repository": "", "new_repository_in": pool.pk}
    assert add(as_admin, other_server, fresh).status_code == 302


def test_what_was_typed_is_shown_again_escaped(as_admin: Client, server: Server, sent: dict[str, Any]) -> None:
    answer = add(as_admin, server, {**sent, "name": "", "files-paths": "/a</textarea><script>x</script>"})
    html = answer.getvalue().decode()
    assert "<script>x" not in html
    assert "/a&lt;/textarea&gt;&lt;script&gt;x" in html


# --- Names that are taken, or long ------------------------------------------------------------


def test_a_plan_may_take_the_name_of_one_that_was_deleted(
    as_admin: Client, server: Server, sent: dict[str, Any]
) -> None:
    add(as_admin, server, sent)
    for _ in range(2):
        Plan.objects.all().delete()  # its source stays
        assert add(as_admin, server, sent).status_code == 302
    assert sorted(source.name for source in Source.objects.all()) == ["home", "home-2", "home-3"]


def test_names_that_are_made_up_fit_their_columns(
    as_admin: Client, server: Server, pool: StoragePool, sent: dict[str, Any]
) -> None:
    long = "x" * 60
    Server.objects.filter(pk=server.pk).update(name=long)
    Repository.objects.update(name=long)
    Source.objects.create(name=long, server=server, parameters={"paths": ["/"]})
    answer = add(as_admin, server, {**sent, "name": long, "repository": "", "new_repository_in": pool.pk})
    assert answer.status_code == 302
    plan = Plan.objects.get()
    assert 50 < len(plan.repository.name) <= 60
    assert 50 < len(plan.sources.get().name) <= 60


def test_a_free_name_counts_up_and_does_not_care_about_capitals(server: Server, pool: StoragePool) -> None:
    assert free_name("web", pool) == "web"
    for name in ("WEB", "web-2", "web-4", "web-11"):
        Repository.objects.create(name=name, pool=pool, server=server)
    assert free_name("web", pool) == "web-3"


# --- Changing ---------------------------------------------------------------------------------


def test_a_plan_is_changed_with_its_source(as_admin: Client, plan: Plan, sent: dict[str, Any]) -> None:
    source = plan.sources.get()
    answer = as_admin.post(f"/plans/{plan.pk}/edit", sent)
    assert answer["Location"] == f"/plans/{plan.pk}"
    plan.refresh_from_db()
    assert (plan.name, plan.compression) == ("home", "zstd,9")
    assert plan.sources.get() == source
    source.refresh_from_db()
    assert source.parameters["paths"] == ["/home", "/srv"]
    changed = {entry.action: entry.detail for entry in AuditEntry.objects.filter(action__endswith=".changed")}
    assert changed["plan.changed"] == {
        "before": {"name": "files", "compression": "lz4"}, "after": {"name": "home", "compression": "zstd,9"},
    }  # fmt: skip
    assert changed["source.changed"]["before"]["parameters.paths"] == ["/etc"]
    assert changed["source.changed"]["after"]["parameters.paths"] == ["/home", "/srv"]


def test_the_form_shows_what_is_saved(as_admin: Client, plan: Plan) -> None:
    html = as_admin.get(f"/plans/{plan.pk}/edit").getvalue().decode()
    assert ">\n/etc</textarea>" in html
    assert 'value="files"' in html


def test_bad_input_changes_nothing_and_the_page_keeps_the_old_name(
    as_admin: Client, plan: Plan, sent: dict[str, Any]
) -> None:
    answer = as_admin.post(f"/plans/{plan.pk}/edit", {**sent, "name": "a b", "files-paths": ""})
    assert set(errors(answer)) == {"name", "paths"}
    assert answer.context["plan"].name == "files"
    plan.refresh_from_db()
    assert (plan.name, plan.sources.get().parameters["paths"]) == ("files", ["/etc"])


def test_a_plan_may_move_to_a_new_repository(
    as_admin: Client, plan: Plan, pool: StoragePool, sent: dict[str, Any]
) -> None:
    before = plan.repository
    as_admin.post(f"/plans/{plan.pk}/edit", {**sent, "repository": "", "new_repository_in": pool.pk})
    plan.refresh_from_db()
    assert plan.repository != before
    assert Job.objects.get().repository == plan.repository


def test_a_plan_can_be_paused(as_admin: Client, plan: Plan, sent: dict[str, Any]) -> None:
    del sent["enabled"]
    as_admin.post(f"/plans/{plan.pk}/edit", sent)
    plan.refresh_from_db()
    assert not plan.enabled
    assert "The plan is paused." in as_admin.get(f"/plans/{plan.pk}").getvalue().decode()


# --- Who --------------------------------------------------------------------------------------


def test_only_who_manages_backups_changes_plans(
    as_operator: Client, as_viewer: Client, plan: Plan, sent: dict[str, Any]
) -> None:
    for client in (as_operator, as_viewer):
        assert add(client, plan.server, sent).status_code == 403
        assert client.post(f"/plans/{plan.pk}/edit", sent).status_code == 403
        assert client.post(f"/plans/{plan.pk}/delete").status_code == 403
    assert Plan.objects.get().name == "files"


def test_what_is_not_there_is_404(as_admin: Client) -> None:
    for path in ("/servers/999/plans/add", "/plans/999", "/plans/999/edit", "/plans/999/delete"):
        assert as_admin.get(path).status_code == 404
    assert as_admin.post("/plans/999/run").status_code == 404


# --- What is proposed for a first plan --------------------------------------------------------

FOLDERS = ["/etc", "/srv", "/data of ours"]
HINT = "files that are copied while a database writes them are not a good backup"


@pytest.fixture
def tested(server: Server) -> Job:
    found = {"folders": FOLDERS, "databases": ["MariaDB"], "containers": [], "disks": []}
    return Job.objects.create(
        type="server_test", server=server, status="completed", result={"ok": True, "found": found}
    )


def proposed(client: Client, server: Server) -> tuple[Any, str]:
    answer = client.get(f"/servers/{server.pk}/plans/add")
    return answer.context["forms"].files["paths"].value(), answer.getvalue().decode()


def test_the_folders_that_are_there_are_proposed(as_admin: Client, server: Server, tested: Job) -> None:
    """Red without the test's result in `_proposal`."""
    paths, html = proposed(as_admin, server)
    assert paths == "\n".join(FOLDERS)
    assert "/etc\n/srv\n/data of ours</textarea>" in html
    assert "that the last connection test found there" in html
    assert '<ol id="wizard"' in html
    assert re.search(r'name="files-exclude_caches"[^>]* checked', html)


def test_beside_a_database_stands_what_its_files_are_worth(as_admin: Client, server: Server, tested: Job) -> None:
    assert HINT in proposed(as_admin, server)[1]
    Job.objects.filter(pk=tested.pk).update(result={"ok": True, "found": {**tested.result["found"], "databases": []}})
    assert HINT not in proposed(as_admin, server)[1]


@pytest.mark.parametrize("result", [None, {"ok": False, "found": {}}, {"ok": True}])
def test_without_a_good_test_nothing_is_proposed(as_admin: Client, server: Server, tested: Job, result: Any) -> None:
    Job.objects.filter(pk=tested.pk).update(result=result)
    assert proposed(as_admin, server)[0] in (None, [], "")


def test_a_second_plan_is_for_something_else(as_admin: Client, plan: Plan, tested: Job) -> None:
    paths, html = proposed(as_admin, plan.server)
    assert not paths
    assert "that the last connection test found there" not in html
    assert '<ol id="wizard"' not in html


def test_what_somebody_typed_is_not_replaced(
    as_admin: Client, server: Server, tested: Job, sent: dict[str, Any]
) -> None:
    answer = add(as_admin, server, {**sent, "name": ""})
    assert answer.context["forms"].files["paths"].value() == sent["files-paths"]
