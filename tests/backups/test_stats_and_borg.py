"""What the stats say of a real repository, beside what borg itself says of it: the same, to the byte."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from backups.models import Archive, Plan
from backups.runners.compare import CompareRepository
from backups.runners.delete import DeleteArchive
from tests.conftest import run_now
from tests.small import SmallRepository

pytestmark = [pytest.mark.django_db, pytest.mark.e2e, pytest.mark.usefixtures("one_thread")]


def borgs_own(kept: SmallRepository) -> tuple[int, int, int]:
    told = json.loads(kept.borg("info", "--json", "::"))["cache"]["stats"]
    return told["total_size"], told["total_csize"], told["unique_csize"]


def sizes(shown: dict[str, Any]) -> tuple[int, int, int]:
    return shown["original"], shown["compressed"], shown["deduplicated"]


def test_every_route_says_what_borg_says(api_viewer: APIClient, plan: Plan, kept: SmallRepository) -> None:
    assert run_now(CompareRepository.enqueue(plan.repository)).status == "completed"
    before = borgs_own(kept)
    assert_told(api_viewer, plan, before)
    archive = Archive.objects.get(name="one")
    assert run_now(DeleteArchive.enqueue(archive)).status == "completed"
    assert run_now(CompareRepository.enqueue(plan.repository)).status == "completed"
    after = borgs_own(kept)
    assert after < before
    assert_told(api_viewer, plan, after)


def assert_told(client: APIClient, plan: Plan, own: tuple[int, int, int]) -> None:
    original, compressed, deduplicated = own
    dashboard, server, efficiency = (
        client.get(f"/api/stats/{path}").json() for path in ("dashboard", f"server/{plan.server.pk}", "efficiency")
    )
    assert sizes(dashboard["stored"]) == own
    assert sizes(server["stored"]) == sizes(server["repositories"][0]["sizes"]) == own
    assert sizes(efficiency["total"]) == sizes(efficiency["results"][0]["sizes"]) == own
    ratios = efficiency["total"]
    assert ratios["compression"] == original / compressed
    assert ratios["deduplication"] == compressed / deduplicated
    assert dashboard["archives"] == server["archives"] == Archive.objects.count()
