import pytest
from django.test import Client

from jobs import queue


def test_healthz_answers_without_a_database(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.django_db
def test_readyz_says_what_is_missing(client: Client) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"database": True, "redis": True, "worker": False, "scheduler": False}


@pytest.mark.django_db
def test_readyz_sees_a_live_scheduler(client: Client) -> None:
    queue.scheduler_beats()
    assert client.get("/readyz").json()["scheduler"] is True


@pytest.mark.django_db
def test_an_unknown_api_path_is_json(client: Client) -> None:
    answer = client.get("/api/nothing/here")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
