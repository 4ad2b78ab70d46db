"""What speaks against an archive that borg has made without an error."""

from typing import Any

import pytest

from backups.models import Archive, Plan
from backups.runners.create import RunBackup
from backups.suspicion import Size, suspicion
from jobs.models import Job
from tests.backups.replay import creates, warning
from tests.conftest import make_archive, run_now
from tests.fakes import FakeMachine

GONE_1_2 = "{}: [Errno 2] No such file or directory: 'x'"
GONE_1_4 = "{}: stat: [Errno 2] No such file or directory: '{}'"


# --- The judgement ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "before", "missing", "said"),
    [
        (Size(100, 1000), None, [], ""),
        (Size(100, 1000), Size(100, 1000), [], ""),
        (Size(50, 500), Size(100, 1000), [], ""),
        (Size(1000, 9), Size(1000, 9), [], ""),
        (Size(0, 0), None, [], "The archive is empty."),
        (Size(0, 0), Size(0, 0), [], "The archive is empty."),
        (Size(49, 999), Size(100, 1000), [], "It has 49 files, less than half of the 100 before."),
        (Size(1, 1), Size(12_345, 1), [], "It has 1 files, less than half of the 12,345 before."),
        (Size(100, 499), Size(100, 1000), [], "It has 499 bytes, less than half of the 1,000 before."),
        (Size(9, 9), Size(9, 9), ["/gone"], "Not found on the server: /gone."),
        (Size(0, 0), None, ["/gone"], "Not found on the server: /gone. The archive is empty."),
        (Size(9, 9), None, list("abcdef"), "Not found on the server: a, b, c, d, e ...."),
    ],
)
def test_an_archive_is_compared_with_its_last_good_predecessor(
    new: Size, before: Size | None, missing: list[str], said: str
) -> None:
    assert suspicion(new, before, missing) == said


# --- In a backup ------------------------------------------------------------------------------

backup = [pytest.mark.django_db, pytest.mark.usefixtures("one_thread")]


def back_up(plan: Plan) -> tuple[Job, Archive]:
    job = run_now(RunBackup.enqueue(plan))
    plan.refresh_from_db()
    return job, Archive.objects.get(pk=job.result["archive"])


class TestInABackup:
    pytestmark = backup

    @pytest.mark.parametrize("said", [GONE_1_2.format("/etc"), GONE_1_4.format("/etc", "/etc")])
    def test_a_source_path_that_is_gone_is_named(self, plan: Plan, machine: FakeMachine, said: str) -> None:
        machine.answers["create"] = creates(warning(said), code=1, files=0, original=0)
        job, archive = back_up(plan)
        assert archive.suspicion == "Not found on the server: /etc. The archive is empty."
        assert (job.status, job.result["suspicion"]) == ("completed", archive.suspicion)
        assert job.lines.filter(message=f"Suspicious: {archive.suspicion}").exists()

    def test_one_of_several_that_is_gone_is_enough(self, second_plan: Plan, machine: FakeMachine) -> None:
        machine.answers["create"] = creates(warning(GONE_1_4.format("/srv", "/srv")), code=107)
        _, archive = back_up(second_plan)
        assert archive.suspicion == "Not found on the server: /srv."

    def test_a_path_with_a_slash_at_its_end_is_the_same(self, plan: Plan, machine: FakeMachine) -> None:
        plan.sources.update(parameters={"paths": ["/etc/"]})
        machine.answers["create"] = creates(warning(GONE_1_2.format("/etc")), code=1)
        assert back_up(plan)[1].suspicion == "Not found on the server: /etc/."

    def test_it_is_seen_even_behind_very_many_other_warnings(self, second_plan: Plan, machine: FakeMachine) -> None:
        others = [warning(f"/home/{number}: open: [Errno 13] Permission denied: 'x'") for number in range(300)]
        vanished = [warning(GONE_1_2.format(f"/home/v{number}")) for number in range(300)]
        machine.answers["create"] = creates(*others, *vanished, warning(GONE_1_2.format("/srv")), code=1)
        job, archive = back_up(second_plan)
        assert archive.suspicion == "Not found on the server: /srv."
        assert len(job.result["unreadable_paths"]) == 100

    def test_a_file_that_vanished_while_borg_read_is_only_a_warning(self, plan: Plan, machine: FakeMachine) -> None:
        machine.answers["create"] = creates(warning(GONE_1_2.format("/etc/mtab.tmp")), code=1)
        job, archive = back_up(plan)
        assert (archive.suspicion, job.warnings) == ("", 1)

    @pytest.mark.parametrize(
        ("numbers", "said"),
        [
            ({"files": 0, "original": 0}, "The archive is empty."),
            ({"files": 49}, "It has 49 files, less than half of the 100 before."),
            ({"original": 499_999}, "It has 499,999 bytes, less than half of the 1,000,000 before."),
        ],
    )
    def test_much_less_than_before_counts_as_no_good_backup(
        self, plan: Plan, machine: FakeMachine, numbers: dict[str, Any], said: str
    ) -> None:
        good = make_archive(plan)
        machine.answers["create"] = creates(**numbers)
        job, archive = back_up(plan)
        assert archive.suspicion == said
        assert plan.last_good_archive() == good
        assert (plan.last_good_at, plan.last_job) == (good.start, job)

    def test_it_is_compared_with_the_last_good_one_not_with_the_last(self, plan: Plan, machine: FakeMachine) -> None:
        make_archive(plan, files=1000)
        make_archive(plan, files=10, suspicion="It has 10 files.")
        machine.answers["create"] = creates(files=20)
        assert "less than half of the 1,000 before" in back_up(plan)[1].suspicion

    def test_another_plans_archives_say_nothing(self, plan: Plan, second_plan: Plan, machine: FakeMachine) -> None:
        make_archive(second_plan, files=1_000_000)
        machine.answers["create"] = creates(files=100)
        assert back_up(plan)[1].suspicion == ""

    def test_without_a_good_one_before_it_there_is_no_last_good(self, plan: Plan, machine: FakeMachine) -> None:
        machine.answers["create"] = creates(files=0)
        back_up(plan)
        assert plan.last_good_at is None
