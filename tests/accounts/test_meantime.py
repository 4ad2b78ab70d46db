"""Two people at one form: the second is told what the first one saved, and nothing of either is lost."""

import re
from typing import Any

import pytest
from django.test import Client

from backups.models import Plan, RetentionPolicy
from servers.models import Server


def fields_of(page: str) -> dict[str, Any]:
    """What a browser would send back of a page that nobody touched."""
    form = page.partition('method="post" novalidate')[2].partition("</form>")[0]
    sent: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]*>", form):
        found = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if found.get("type") in ("checkbox", "radio") and " checked" not in tag:
            continue
        if "name" in found:
            sent[found["name"]] = found.get("value", "on" if found.get("type") in ("checkbox", "radio") else "")
    sent |= dict(re.findall(r'<textarea[^>]*name="([^"]+)"[^>]*>\s?([^<]*)</textarea>', form))
    for name, options in re.findall(r'<select[^>]*name="([^"]+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'<option value="([^"]*)" selected', options)
        first = re.search(r'<option value="([^"]*)"', options)
        sent[name] = (chosen or first).group(1)  # type: ignore[union-attr]
    return sent


@pytest.fixture
def address(plan: Plan) -> str:
    return f"/plans/{plan.pk}/edit"


def test_who_saves_alone_is_asked_nothing(as_admin: Client, plan: Plan, address: str) -> None:
    sent = fields_of(as_admin.get(address).content.decode()) | {"name": "nightly"}
    assert as_admin.post(address, sent).status_code == 302
    plan.refresh_from_db()
    assert plan.name == "nightly"


def test_the_second_one_sees_both_versions_and_decides(as_admin: Client, plan: Plan, address: str) -> None:
    """Red without Meantime: what the first one saved is gone, and nobody knows."""
    second = fields_of(as_admin.get(address).content.decode()) | {"name": "mine"}
    Plan.objects.update(name="theirs")
    answer = as_admin.post(address, second)
    assert answer.status_code == 400
    page = answer.content.decode()
    assert "Meanwhile somebody saved “theirs” here." in page
    assert 'value="mine"' in page
    plan.refresh_from_db()
    assert plan.name == "theirs"
    again = fields_of(page)
    assert again["name"] == "mine"
    assert as_admin.post(address, again).status_code == 302
    plan.refresh_from_db()
    assert plan.name == "mine"


def test_what_others_changed_elsewhere_on_the_page_is_not_put_back(as_admin: Client, plan: Plan, address: str) -> None:
    mine = fields_of(as_admin.get(address).content.decode()) | {"name": "mine"}
    Plan.objects.update(compression="zstd,10")
    source = plan.sources.get()
    source.parameters = {**source.parameters, "paths": ["/somewhere", "/else"]}
    source.save()
    page = as_admin.post(address, mine).content.decode()
    assert page.count("Meanwhile somebody saved") == 2
    assert Plan.objects.get().compression == "zstd,10"


@pytest.mark.parametrize("first", [{"name": ""}, {"name": "mine", "runs": "1"}])
def test_a_page_that_comes_back_for_another_reason_forgets_nobody(
    as_admin: Client, plan: Plan, address: str, first: dict[str, str]
) -> None:
    """Red without `_untold`: the form comes back with what is stored now, as if somebody had seen it."""
    sent = fields_of(as_admin.get(address).content.decode())
    Plan.objects.update(compression="zstd,10")
    page = as_admin.post(address, sent | first).content.decode()
    assert "Meanwhile somebody saved" not in page
    answer = as_admin.post(address, fields_of(page) | {"name": "mine"})
    assert "Meanwhile somebody saved" in answer.content.decode()
    assert Plan.objects.get().compression == "zstd,10"


def test_who_wants_the_same_as_the_other_is_not_asked(as_admin: Client, plan: Plan, address: str) -> None:
    mine = fields_of(as_admin.get(address).content.decode()) | {"name": "ours"}
    Plan.objects.update(name="ours")
    assert as_admin.post(address, mine).status_code == 302


@pytest.mark.parametrize("as_of", ["", "x", "name", "name:", ":::", "name:0 name:1", "<b>:1"])
def test_a_hidden_field_that_makes_no_sense_breaks_nothing(as_admin: Client, address: str, as_of: str) -> None:
    sent = fields_of(as_admin.get(address).content.decode()) | {"as_of": as_of}
    assert as_admin.post(address, sent).status_code in (302, 400)


def test_servers_pools_repositories_and_policies_are_guarded_too(as_admin: Client, plan: Plan) -> None:
    policy = RetentionPolicy.objects.create(name="some")
    changes: list[tuple[str, Any, str, object]] = [
        (f"/servers/{plan.server.pk}/edit", plan.server, "address", "10.9.9.9"),
        (f"/pools/{plan.repository.pool_id}/edit", plan.repository.pool, "name", "other"),
        (f"/repositories/{plan.repository.pk}/edit", plan.repository, "check_days", 3),
        (f"/retention-policies/{policy.pk}/edit", policy, "keep_daily", 99),
    ]
    for address, row, field, value in changes:
        sent = fields_of(as_admin.get(address).content.decode())
        type(row).objects.filter(pk=row.pk).update(**{field: value})
        answer = as_admin.post(address, sent)
        assert answer.status_code == 400, address
        assert f"Meanwhile somebody saved “{value}” here." in answer.content.decode()
        row.refresh_from_db()
        assert getattr(row, field) == value
    assert Server.objects.count() == 1
