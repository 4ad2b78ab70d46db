"""Records the examples of the schema: what the contract's requests are answered with. `make examples` runs this.

Not a test; tests/phpborg/test_schema.py looks whether every example is as the schema says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rest_framework.test import APIClient

from phpborg.schema import EXAMPLES
from tests.phpborg.test_api_contract import CONTRACT, answer_to
from tests.phpborg.things import filled

SECRETS = {"access_token", "refresh_token", "token"}


def test_record(things: dict[str, Any], api_admin: APIClient, tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    for row in CONTRACT:
        known = found.setdefault(f"{row.method.upper()} {row.route}", {"answers": {}})
        answer = answer_to(row, api_admin, things)
        if answer.status_code >= 300:
            continue  # errors are described once for all: phpborg/schema.py
        if row.body is not None:
            known.setdefault("request", shown(filled(row.body, things), tmp_path))
        if not answer.streaming and answer.content and answer["Content-Type"] == "application/json":
            known["answers"].setdefault(str(answer.status_code), shown(answer.json(), tmp_path))
    EXAMPLES.write_text(json.dumps(found, indent=1, ensure_ascii=False, default=str) + "\n")


def shown(value: Any, folder: Path, name: str = "") -> Any:
    """The same without secrets, and without the folder of whoever records."""
    if isinstance(value, dict):
        return {key: shown(one, folder, key) for key, one in value.items()}
    if isinstance(value, list):
        return [shown(one, folder, name) for one in value]
    if name in SECRETS:
        return "..."
    if isinstance(value, str):
        return value.replace(str(folder), "/srv").replace("http://testserver", "https://backup.example.org")
    return value
