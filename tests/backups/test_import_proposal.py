"""The plan that is proposed from the command line of the newest archive."""

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.fields import validate_compression
from backups.models import Archive, Plan, Repository
from backups.proposal import Proposal, proposal_for, propose
from backups.sources.files import FilesForm
from tests.conftest import make_archive

OF_EVERY_DAY = (
    "/usr/bin/borg create --verbose --filter AME --list --stats --show-rc --compression zstd,9 --exclude-caches "
    "--exclude '/home/*/.cache/*' -e 'sh:/var/tmp/**' -x --upload-ratelimit=2000 "
    "ssh://borg@backup:22/./web-1::'{hostname}-{now}' /etc /home '/srv/my files'"
)


def test_a_usual_command_line_becomes_a_plan() -> None:
    assert propose(OF_EVERY_DAY) == Proposal(
        paths=("/etc", "/home", "/srv/my files"), excludes=("/home/*/.cache/*", "sh:/var/tmp/**"),
        compression="zstd,9", one_file_system=True, exclude_caches=True, upload_kib_per_second=2000,
    )  # fmt: skip


def test_a_list_of_words_means_the_same_as_a_line() -> None:
    assert propose(shlex.split(OF_EVERY_DAY)) == propose(OF_EVERY_DAY)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("borg create r::a /etc", {"paths": ("/etc",)}),
        ("borg -v --lock-wait 5 create r::a /etc", {"paths": ("/etc",)}),
        ("LANG=C.UTF-8 BORG_RSH='sh -c x' borg create r::a -- /etc", {"paths": ("/etc",)}),
        ("python3 /usr/bin/borg create ::a /etc", {"paths": ("/etc",)}),
        ("borg create r::a /etc --exclude /etc/x", {"paths": ("/etc",), "excludes": ("/etc/x",)}),
        ("borg create r::a --exclude /etc/x /etc /b", {"paths": ("/etc", "/b"), "excludes": ("/etc/x",)}),
        ("borg create --exclude=a --exclude b r::x /c", {"paths": ("/c",), "excludes": ("a", "b")}),
        ("borg create -xsv r::x /c", {"paths": ("/c",), "one_file_system": True}),
        ("borg create --one-file r::x /c", {"paths": ("/c",), "one_file_system": True}),
        ("borg create -C lz4 r::x /c", {"paths": ("/c",), "compression": "lz4"}),
        ("borg create --remote-ratelimit 5 r::x /c", {"paths": ("/c",), "upload_kib_per_second": 5}),
        ("borg create r::x /c/ //c /c/../d /c", {"paths": ("/c", "/d")}),
        ("borg create r::x -- /--stats", {"paths": ("/--stats",)}),
        ("borg create r::x / ", {"paths": ("/",)}),
    ],
)
def test_what_a_plan_can_say(line: str, expected: dict[str, Any]) -> None:
    assert propose(line) == Proposal(**expected)


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        ("--patterns-from /etc/p", ("--patterns-from /etc/p",)),
        ("--exclude-from=x --pattern '- re:a b'", ("--exclude-from x", "--pattern '- re:a b'")),
        ("--keep-exclude-tags --exclude-if-present .no", ("--keep-exclude-tags", "--exclude-if-present .no")),
        ("--compression obfuscate,110,zstd", ("--compression obfuscate,110,zstd",)),
        ("--compression zstd,99", ("--compression zstd,99",)),
        ("--something-new", ("--something-new",)),
    ],
)  # fmt: skip
def test_what_a_plan_cannot_say_is_told(words: str, left_out: tuple[str, ...]) -> None:
    assert propose(f"borg create {words} r::a /etc") == Proposal(paths=("/etc",), left_out=left_out)


def test_paths_that_depend_on_where_one_was_are_left_out() -> None:
    assert propose("borg create r::a . etc ../x - /srv") == Proposal(
        paths=("/srv",), left_out=(".", "etc", "../x", "-")
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "borg create",
        "borg create r::a",
        "borg create r::a .",
        "borg import-tar r::a x.tar",
        "borg recreate r::a /x",
        "borg create --exclude",
        "borg create --upload-ratelimit many r::a /x",
        "borg create --exclude 'open r::a /x",
        "borg create --content-from-command r::a -- /usr/bin/mysqldump /x",
        "borg create --paths-from-command r::a -- /usr/bin/find /x",
        "borg create --co r::a /x",
        "borg create r::a " + "/x " * 20_000,
    ],
)
def test_what_cannot_be_understood_is_no_plan(line: str) -> None:
    assert propose(line) is None


def test_no_line_is_longer_and_no_list_larger_than_a_form_takes() -> None:
    words = ["borg", "create", "r::a", "/" + "x" * 5000, "/a\nb", "/ok", *(f"/{number}" for number in range(2000))]
    proposal = propose(words)
    assert proposal and len(proposal.paths) == 1000
    form = FilesForm(proposal.of_files)
    assert form.is_valid(), form.errors
    assert len(proposal.left_out) == 1000
    assert all(len(word) < 100 for word in proposal.left_out)


words = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(["--exclude", "-e", "/etc", "/", "--", "-", "-x", "--compression", "lz4", "--pattern", "r::a",
                         "--upload-ratelimit", "-1", "9" * 5000, "/<b>", "/$(id)", "--exclude=\n", "/a\0b", "-xe"]),
    ),
    max_size=30,
)  # fmt: skip


@given(words)
def test_whatever_an_archive_claims_the_form_can_show_and_take_it(claimed: list[str]) -> None:
    proposal = propose(["borg", "create", *claimed])
    if proposal is None:
        return
    form = FilesForm(proposal.of_files)
    assert "paths" not in form.errors or all(path.strip() != path for path in proposal.paths)
    if proposal.compression:
        validate_compression(proposal.compression)
    assert proposal.upload_kib_per_second >= 0


# --- Of which archive ---------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_newest_archive_decides_while_there_is_no_plan(repository: Repository, plan: Plan) -> None:
    for day, path in ((1, "/old"), (3, "/new"), (2, "/middle")):
        make_archive(plan, start=f"2026-03-0{day}T02:00:00Z", command_line=f"borg create r::a {path}")
    make_archive(plan, start="2026-03-04T02:00:00Z")
    Archive.objects.update(plan=None)
    assert proposal_for(repository) is None  # it has a plan
    plan.delete()
    assert proposal_for(repository) == Proposal(paths=("/new",), repository=repository.pk)


@pytest.mark.django_db
def test_an_empty_repository_proposes_nothing(repository: Repository) -> None:
    assert proposal_for(repository) is None
