import threading
from collections.abc import Iterator
from typing import Self, cast

import pytest
from django.db import connections
from django.db.models import Count

from accounts import encryption
from backups.models import Archive, Plan, Repository, Source, StoragePool
from jobs.models import Job
from jobs.runner import perform
from servers.models import Server
from servers.ssh.command import Command
from servers.ssh.transport import Tick
from tests.backups.tree import PASSPHRASE, Tree, make_repository
from tests.conftest import HOST_KEY, make_archive
from tests.fakes import FakeMachine


@pytest.fixture
def other_server(db: None) -> Server:
    return Server.objects.create(name="db-1", address="192.0.2.9", host_key=HOST_KEY, host_key_seen=HOST_KEY)


@pytest.fixture
def other_source(other_server: Server) -> Source:
    return Source.objects.create(name="var", server=other_server, parameters={"paths": ["/var"]})


@pytest.fixture
def counted(db: None) -> Iterator[None]:
    """Whatever a test did to archives, each repository still knows how many it has."""
    yield
    counts = Repository.objects.annotate(n=Count("archives")).values_list("n", "archive_count")
    assert [kept for n, kept in counts] == [n for n, kept in counts]


@pytest.fixture
def second_plan(plan: Plan) -> Plan:
    """Another plan of the same server, into the same repository."""
    second = Plan.objects.create(name="home", server=plan.server, repository=plan.repository)
    second.sources.add(Source.objects.create(name="home", server=plan.server, parameters={"paths": ["/home", "/srv"]}))
    return second


class FakeRelay:
    """Stands between a FakeMachine and no borg serve at all."""

    def __init__(self, remote: object, serve: Command, tick: Tick) -> None:
        self.serve = serve
        self.rsh = "sh /tmp/phpborg.x/rsh"
        self.complaints = ["serve says hello"]
        relays.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


relays: list[FakeRelay] = []


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """Every server is this machine, reached without SSH."""
    machine = FakeMachine()
    relays.clear()
    monkeypatch.setattr(Server, "connect", lambda *_: machine)
    monkeypatch.setattr("backups.runners.base.Relay", FakeRelay)
    return machine


class Workers:
    """Does each job that is rung for in a thread of its own, as worker processes would."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def ring(self, job: Job) -> None:
        thread = threading.Thread(target=self._work, args=(str(job.pk),))
        self._threads.append(thread)
        thread.start()

    def _work(self, job_id: str) -> None:
        try:
            perform(job_id)
        except BaseException as error:  # noqa: BLE001  # told to the test, by `join`
            self.errors.append(error)
        finally:
            connections.close_all()

    def join(self) -> None:
        """Wait until all that was rung for is done."""
        for thread in self._threads:  # grows while we wait: a job may start another
            thread.join(60)
            assert not thread.is_alive(), "A job did not end."
        assert not self.errors


@pytest.fixture
def workers(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    workers = Workers()
    monkeypatch.setattr("jobs.queue._ring", workers.ring)
    monkeypatch.setattr("jobs.queue.live_workers", lambda: ["these"])
    yield workers
    workers.join()


# --- A real repository ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return make_repository(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def real_archive(tree: Tree, plan: Plan) -> Archive:
    """The archive `src` of that repository, as a row."""
    repository = plan.repository
    StoragePool.objects.filter(pk=repository.pool_id).update(path=str(tree.repository.parent))
    Repository.objects.filter(pk=repository.pk).update(
        name=tree.repository.name, borg_id=tree.repository_id, passphrase_encrypted=encryption.encrypt(PASSPHRASE)
    )
    made = make_archive(plan, name="src", borg_id=tree.archives["src"])
    return cast("Archive", Archive.objects.with_scope().get(pk=made.pk))
