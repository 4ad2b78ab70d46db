"""A server that somebody has taken over does all that an append-only borg lets it do, while we let it in.

Without `backups.reconcile.compare` before a deletion, and with retention counted over what borg
lists instead of over our own record, each of these makes us delete good archives (BORG.md, finding 5).
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from backups.models import Archive, Plan, Repository, RetentionPolicy
from backups.runners.prune import PruneArchives
from jobs.runner import Refused
from tests.conftest import make_archive, run_now
from tests.small import PASSPHRASE, SmallRepository

pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.usefixtures("one_thread")]

DAY = timedelta(days=1)


class TakenOver:
    """The server's borg in other hands: it knows the passphrase, and talks to our append-only end."""

    def __init__(self, kept: SmallRepository, folder: Path) -> None:
        self._location = f"ssh://phpborg{kept.path}"
        serve = shlex.join(["borg", "serve", "--append-only", f"--restrict-to-repository={kept.path}"])
        rsh = folder / "rsh"
        rsh.write_text(f"#!/bin/sh\nexec {serve}\n")
        rsh.chmod(0o700)
        self._env = {
            **os.environ, "BORG_RSH": str(rsh), "BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": str(folder / "theirs"),
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes", "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING": "YES", "TZ": "UTC",
        }  # fmt: skip

    def borg(self, command: str, archive: str, *words: str) -> None:
        argv = ["borg", command, f"{self._location}::{archive}", *words]
        subprocess.run(argv, env=self._env, check=True, capture_output=True, timeout=60)

    def create(self, name: str, when: str) -> None:
        """An empty one: its only path is not there, which borg but warns of."""
        argv = ["borg", "create", f"--timestamp={when}", f"{self._location}::{name}", "/nowhere"]
        done = subprocess.run(argv, env=self._env, check=False, capture_output=True, timeout=60)
        assert done.returncode in (0, 1, 107), done.stderr


def back_dated(server: TakenOver, plan: Plan) -> None:
    """Empty archives just before midnight of the last days: borg's own --keep-daily would choose these."""
    for age in range(2):
        server.create(f"web-1-files-{age}", f"{timezone.now() - age * DAY:%Y-%m-%d}T23:59:59")


def post_dated(server: TakenOver, plan: Plan) -> None:
    """From the future: they would win --keep-last for ever."""
    for number in range(2):
        server.create(f"web-1-files-{number}", f"2099-12-31T23:59:0{number}")


def by_our_names(server: TakenOver, plan: Plan) -> None:
    """Named as if the plan had made it a moment ago."""
    server.create(f"web-1-files-{timezone.now():%Y-%m-%dT%H:%M:%S}", f"{timezone.now():%Y-%m-%dT%H:%M:%S}")


def deleted(server: TakenOver, plan: Plan) -> None:
    """In its append-only way: the list has it no more, the data is there until somebody compacts."""
    server.borg("delete", "two")


def replaced(server: TakenOver, plan: Plan) -> None:
    """An empty archive under the name of a good one, with its date."""
    server.borg("delete", "three")
    server.create("three", "2026-03-03T02:00:00")


def renamed(server: TakenOver, plan: Plan) -> None:
    server.borg("rename", "one", "eins")


def all_gone(server: TakenOver, plan: Plan) -> None:
    for name in ("one", "two", "three"):
        server.borg("delete", name)


ATTACKS = [back_dated, post_dated, by_our_names, deleted, replaced, renamed, all_gone]


@pytest.fixture
def policy(plan: Plan, kept: SmallRepository) -> RetentionPolicy:
    """Keeps two dailies: of what is on record, `one` may go."""
    policy = RetentionPolicy.objects.create(
        name="tight", keep_within="", keep_last=0, keep_daily=2, keep_weekly=0, keep_monthly=0
    )
    Plan.objects.update(retention=policy)
    plan.refresh_from_db()
    return policy


def segments(kept: SmallRepository) -> int:
    return sum(path.stat().st_size for path in kept.path.glob("data/*/*"))


@pytest.mark.parametrize("attack", ATTACKS)
def test_not_one_good_archive_is_deleted(
    plan: Plan, kept: SmallRepository, policy: RetentionPolicy, tmp_path: Path,
    attack: Callable[[TakenOver, Plan], None],
) -> None:  # fmt: skip
    attack(TakenOver(kept, tmp_path), plan)
    names, size = set(kept.archives()), segments(kept)
    job = run_now(PruneArchives.enqueue(plan))
    assert job.status == "failed"
    assert job.error.startswith("The repository web-1 is frozen.")
    assert set(kept.archives()) == names  # whatever it lists now: we deleted nothing
    assert segments(kept) >= size
    assert {"one", "two", "three"} == set(Archive.objects.filter(quarantine="").values_list("name", flat=True))
    assert Repository.objects.get().frozen
    with pytest.raises(Refused, match="is frozen"):
        PruneArchives.enqueue(Plan.objects.get())


def test_without_an_attack_the_same_policy_deletes(plan: Plan, kept: SmallRepository, policy: RetentionPolicy) -> None:
    """So that the tests above can fail."""
    job = run_now(PruneArchives.enqueue(plan))
    assert (job.status, job.result["deleted"]) == ("completed", ["one"])
    assert set(kept.archives()) == {"two", "three"}


@pytest.mark.parametrize("attack", [back_dated, post_dated, by_our_names])
def test_what_it_forged_never_counts_also_when_somebody_goes_on(
    plan: Plan, kept: SmallRepository, policy: RetentionPolicy, tmp_path: Path,
    attack: Callable[[TakenOver, Plan], None],
) -> None:  # fmt: skip
    attack(TakenOver(kept, tmp_path), plan)
    run_now(PruneArchives.enqueue(plan))
    Repository.objects.update(frozen="")
    plan.refresh_from_db()
    job = run_now(PruneArchives.enqueue(plan))
    assert (job.status, job.result["deleted"]) == ("completed", ["one"])
    assert {"two", "three"} < set(kept.archives())


def test_a_forged_description_of_our_own_backup_deletes_nothing(
    plan: Plan, kept: SmallRepository, policy: RetentionPolicy
) -> None:
    """It tells of an archive that is not in the repository at all."""
    make_archive(plan, name="invented", borg_id="ee" * 32)
    job = run_now(PruneArchives.enqueue(plan))
    assert job.status == "failed"
    assert "An archive is gone from the repository, but not by phpBorg: invented." in job.error
    assert set(kept.archives()) == {"one", "two", "three"}
