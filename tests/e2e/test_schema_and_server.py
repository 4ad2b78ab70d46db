"""The API's schema against a web process: schemathesis sends what it allows and what it does not, and checks answers.

No worker is there, so that nothing happens to what was sent. What an id is of decides more than the schema can say,
so that a request may fit it and still be refused; and what a DELETE cancels or switches off is still there. All other
checks are on.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import RequestFactory
from rest_framework.test import APIClient

from accounts import tokens
from accounts.models import User
from backups.models import Archive
from tests.conftest import PASSWORD
from tests.faults.conftest import Web
from tests.phpborg.test_api_contract import CONTRACT
from tests.phpborg.things import made_for

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("web")]

STREAMS = "^/api/(sse/|logs/tail)"  # they never end; what they refuse is in tests/jobs/test_streams.py
OUT_OF_REACH = 1_000_003  # the id of who asks, so that nobody changes or deletes them by chance
MOST_SECONDS = 600


@pytest.fixture
def web(tmp_path: Path, transactional_db: None) -> Iterator[Web]:
    web = Web(tmp_path / "web.log")
    web.up()
    yield web
    web.kill()


def dictionaries(things: dict[str, Any]) -> str:
    """A configuration with ids of things that exist: four of five requests are about one of those."""
    ids = sorted({value for value in things.values() if isinstance(value, int)})
    jobs = [str(things[name]) for name in ("job", "running", "waiting")]
    people = [things["user"], things["veteran"]]
    named = {"ids": ids, "jobs": jobs, "archives": [things["archive"], things["mounted"]], "people": people}
    bodies = ("server", "repository", "pool", "server_id", "plan_id", "subject")
    return "\n".join([
        "[dictionaries]",
        *(f"{name} = {{ values = {json.dumps(values)} }}" for name, values in named.items()),
        "[parameters]",
        *(f'"{name}" = {{ dictionary = "ids", probability = 0.8 }}'
          for name in ("path.id", "path.server_pk", *(f"body.{body}" for body in bodies))),
        *(f'[[operations]]\ninclude-path-regex = "^/api/{paths}"\n'
          f'parameters = {{ "path.id" = {{ dictionary = "{name}", probability = 0.8 }} }}'
          for paths, name in (("archives", "archives"), ("(backups|jobs)", "jobs"), ("users", "people"))),
        # DELETE cancels a job, and switches off who has done something: both are still there.
        '[[operations]]\ninclude-path-regex = "^/api/(jobs|users)"\nchecks.use_after_free.enabled = false',
    ])  # fmt: skip


def test_every_answer_is_as_the_schema_says_whatever_is_sent(web: Web, archive: Archive, tmp_path: Path) -> None:
    """Red when a status, a type or a null is not described, when what the schema forbids is taken, and by any 500."""
    boss = User.objects.create_user("boss", password=PASSWORD, id=OUT_OF_REACH)
    boss.groups.set(Group.objects.filter(name="ROLE_ADMIN"))
    token = tokens.log_in(boss, RequestFactory().get("/")).access
    config = tmp_path / "schemathesis.toml"
    config.write_text(dictionaries(made_for(boss, archive, tmp_path)))
    argv = [
        str(Path(sys.executable).with_name("st")), "--config-file", str(config), "run", f"{web.url}/api/schema",
        "--header", f"Authorization: Bearer {token}", "--exclude-path-regex", STREAMS,
        "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--max-examples", "2",
        "--generation-deterministic", "--warnings", "off", "--no-color",
    ]  # fmt: skip
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=MOST_SECONDS, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2_000:]
    counts = re.search(r"Tested: (\d+)", ran.stdout)
    described = {(row.method, row.route) for row in CONTRACT if not re.match(STREAMS, row.route)}
    assert counts and int(counts[1]) == len(described) - 2, ran.stdout[-2_000:]  # without schema and docs
    assert APIClient(HTTP_AUTHORIZATION=f"Bearer {token}").get("/api/auth/me").status_code == 200
