"""Dockerfile and compose.yaml: read, not built, where no images can be had."""

import re
from typing import Any

import pytest
import yaml

from tests.deploy import DEPLOY, ROOT
from tests.deploy.test_env_example import shown


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


def test_there_is_all_of_phpborg(services: dict[str, Any]) -> None:
    assert set(services) == {"setup", "web", "worker", "scheduler", "database", "redis"}


def test_every_command_is_one_of_ours(services: dict[str, Any]) -> None:
    ours = {path.stem for path in ROOT.glob("*/management/commands/*.py")} | {"migrate"}
    assert {service["command"][0] for service in services.values() if service.get("image") == "phpborg"} <= ours


def test_every_variable_is_one_of_ours(services: dict[str, Any]) -> None:
    """Red with a variable that is called otherwise in settings.py."""
    named = {name for s in services.values() if s.get("image") == "phpborg" for name in s.get("environment", {})}
    assert named
    assert named <= set(shown())


def test_nothing_starts_before_the_database_is_up_to_date(services: dict[str, Any]) -> None:
    for name in ("web", "worker", "scheduler"):
        assert services[name]["depends_on"]["setup"] == {"condition": "service_completed_successfully"}


def test_a_worker_is_left_its_time(services: dict[str, Any]) -> None:
    """Red with Docker's default: the running backup is killed after ten seconds."""
    assert services["worker"]["stop_grace_period"] == "12h"


def test_nothing_is_open_to_others_than_this_machine(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8000:8000"]


def test_no_secret_stands_in_either_file() -> None:
    text = (DEPLOY / "compose.yaml").read_text() + (DEPLOY / "Dockerfile").read_text()
    assert re.findall(r"PASSWORD: (?!\$\{)\S+", text.replace('RANDOM_ROOT_PASSWORD: "1"', "")) == []


def test_the_image_is_nobodys_root() -> None:
    last = (DEPLOY / "Dockerfile").read_text().rpartition("FROM ")[2]
    assert re.search(r"^USER phpborg$", last, re.MULTILINE)
    assert "COPY . ." not in last
