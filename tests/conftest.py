"""What all tests share: a Redis, three plain users, one of each thing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.apps import AppConfig
from django.conf import settings
from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.core.cache import cache
from django.core.management import call_command
from django.db.models.signals import post_migrate  # noqa: TID251 - Django's own flush says nothing else
from django.dispatch import receiver  # noqa: TID251 - the same
from django.test import Client, RequestFactory
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import chain, encryption, tokens
from accounts.access import Permission
from accounts.models import AuditHead, User
from backups import proofs
from backups.models import Archive, Plan, Repository, RestoreTest, Source, StoragePool
from jobs import periodic, queue
from jobs.config import config
from jobs.models import Job
from jobs.runner import perform
from phpborg.embedded import RedisServer
from servers.models import Server
from tests.small import PASSPHRASE as SMALL_PASSPHRASE
from tests.small import SmallRepository
from tests.small import make as make_small

PASSWORD = "correct horse battery staple"

# How long an example takes is no matter of tests.
hypothesis.settings.register_profile("phpborg", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("phpborg")

# In the background of a script a shell starts us deaf to SIGINT, and so would be every command that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def redis_server() -> Iterator[RedisServer]:
    with RedisServer(settings.EMBEDDED_REDIS_SOCKET, log=settings.DATA_DIR / "redis.log") as server:
        yield server


@pytest.fixture(autouse=True)
def empty_redis(redis_server: RedisServer) -> None:
    """No test sees what the one before it queued, counted or beat."""
    queue.connection().flushdb()


@pytest.fixture(autouse=True)
def data_dirs(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own catalogs and its own cache of borg."""
    settings.CATALOG_DIR = tmp_path / "catalog"
    settings.DIFF_DIR = tmp_path / "diffs"
    settings.SCRATCH_DIR = tmp_path / "scratch"
    settings.BORG_BASE_DIR = tmp_path / "borg"
    monkeypatch.setattr("backups.pools.RESERVE_BYTES", 65_536)  # so that thousands of pools need no disk of their own


@pytest.fixture(autouse=True)
def live_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test reads the live settings for itself, and once, however long it takes."""
    monkeypatch.setattr("jobs.config.KEPT_SECONDS", 3600.0)
    config.forget()
    yield
    config.forget()


@pytest.fixture
def live(db: None) -> Callable[..., None]:
    """Changes live settings in this process, as who may would do it: `live(JOB_KEEP_DAYS=7)`."""

    def change(**values: Any) -> None:
        config.change({name.lower(): value for name, value in values.items()})
        config.forget()  # the test's transaction is never committed

    return change


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    """No test sees what the one before it counted."""
    cache.clear()


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reaper's second look comes right after its first."""
    monkeypatch.setattr(periodic, "SECOND_LOOK_SECONDS", 0)


@receiver(post_migrate)
def roles_after_a_flush(app_config: AppConfig, **more: Any) -> None:
    """After a transactional test everything is flushed, also what the migrations put there: it comes back."""
    if app_config.label == "accounts" and "plan" not in more:
        call_command("sync_roles", stdout=StringIO())
        head = AuditHead(pk=1)
        head.seal = chain.seal_of(head, encryption.chaining_keys()[0])
        head.save()


def for_program(field: str, text: str) -> str | int:
    """What somebody would type into a field, as a program sends it: a number is one."""
    is_number = field in ("port", "server", "pool") and text.removeprefix("-").isdecimal()
    return int(text) if is_number else text


def make_user(name: str, role: str) -> User:
    user = User.objects.create_user(name, password=PASSWORD)
    user.groups.add(Group.objects.get(name=role))
    return user


def holder(name: str, *permissions: Permission) -> User:
    """Somebody with a role of their own."""
    user = User.objects.create_user(name, password=PASSWORD)
    role = Group.objects.create(name=f"role of {name}")
    role.permissions.set(DjangoPermission.objects.filter(codename__in=permissions))
    user.groups.add(role)
    return user


@pytest.fixture
def admin(db: None) -> User:
    return make_user("ada", "ROLE_ADMIN")


@pytest.fixture
def operator(db: None) -> User:
    return make_user("otto", "ROLE_OPERATOR")


@pytest.fixture
def viewer(db: None) -> User:
    return make_user("vera", "ROLE_VIEWER")


def page_of(user: User) -> Client:
    """A browser in which `user` is signed in."""
    client = Client()
    client.force_login(user)
    return client


def api_of(user: User) -> APIClient:
    """A program with `user`'s access token."""
    client = APIClient()
    pair = tokens.log_in(user, RequestFactory().get("/"))
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {pair.access}")
    return client


@pytest.fixture
def as_admin(admin: User) -> Client:
    return page_of(admin)


@pytest.fixture
def as_operator(operator: User) -> Client:
    return page_of(operator)


@pytest.fixture
def as_viewer(viewer: User) -> Client:
    return page_of(viewer)


@pytest.fixture
def api_admin(admin: User) -> APIClient:
    return api_of(admin)


@pytest.fixture
def api_operator(operator: User) -> APIClient:
    return api_of(operator)


@pytest.fixture
def api_viewer(viewer: User) -> APIClient:
    return api_of(viewer)


# --- One of each thing ------------------------------------------------------------------------

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMProk6C33BWNPNFKE/LYH+M2VmJENROc22VIVce/wkB"


@pytest.fixture
def server(db: None) -> Server:
    return Server.objects.create(
        name="web-1", address="192.0.2.7", host_key=HOST_KEY, host_key_seen=HOST_KEY, borg_path="/usr/bin/borg"
    )


@pytest.fixture
def pool(db: None, tmp_path: Path) -> StoragePool:
    folder = tmp_path / "pool"
    folder.mkdir()
    return StoragePool.objects.create(name="disk", path=str(folder))


@pytest.fixture
def repository(server: Server, pool: StoragePool) -> Repository:
    return Repository.objects.create(
        name="web-1", pool=pool, server=server, state=Repository.State.READY, borg_id="ab" * 32,
        passphrase_encrypted=encryption.encrypt("s3cret passphrase"), key_encrypted=encryption.encrypt("BORG_KEY ..."),
    )  # fmt: skip


@pytest.fixture
def plan(server: Server, repository: Repository) -> Plan:
    source = Source.objects.create(name="etc", server=server, parameters={"paths": ["/etc"], "excludes": ["*.tmp"]})
    plan = Plan.objects.create(name="files", server=server, repository=repository)
    plan.sources.add(source)
    return plan


@pytest.fixture
def archive(plan: Plan) -> Archive:
    return make_archive(plan)


def make_archive(plan: Plan, **changes: Any) -> Archive:
    now = timezone.now()
    number = Archive.objects.count() + 1
    values: dict[str, Any] = {
        "repository": plan.repository, "server": plan.server, "plan": plan, "name": f"web-1-files-{number}",
        "borg_id": f"{number:064x}", "start": now, "end": now, "taken_at": changes.get("start", now),
        "duration": 12.5, "original_bytes": 1_000_000, "compressed_bytes": 600_000, "deduplicated_bytes": 50_000,
        "files": 100,
    }  # fmt: skip
    archive = Archive.objects.create(**(values | changes))
    archive.repository.note_archives()
    return archive


def make_proof(archive: Archive, **changes: Any) -> RestoreTest:
    """A restore test of it, with evidence as real ones have it."""
    told = {
        "archive": {"name": archive.name, "borg_id": archive.borg_id, "taken_at": archive.taken_at.isoformat()},
        "server": archive.server.name, "files": 200, "bytes": 4_000_000, "seconds": 0.8, "held": True,
        "started_at": "2026-03-01T02:00:00+00:00", "ended_at": "2026-03-01T02:00:09+00:00",
    }  # fmt: skip
    values: dict[str, Any] = {
        "plan": archive.plan, "server": archive.server, "archive": archive, "name": archive.name, "held": True,
        "files": 200, "bytes": 4_000_000, "seconds": 0.8,
    }  # fmt: skip
    return RestoreTest.objects.create(**(values | proofs.signed(told) | changes))


def run_now(job: Job) -> Job:
    """Do `job` in this process, as a worker would, and return the row as it is then."""
    perform(str(job.pk))
    job.refresh_from_db()
    return job


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's second thread writes nothing while it runs, so a test inside one transaction can run it."""
    monkeypatch.setattr("jobs.log.FLUSH_SECONDS", 3600.0)


# --- A real repository ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def small_repository(tmp_path_factory: pytest.TempPathFactory) -> SmallRepository:
    return make_small(tmp_path_factory.mktemp("small"))


@pytest.fixture
def kept(small_repository: SmallRepository, plan: Plan) -> SmallRepository:
    """A copy of that where the plan's repository is, all of its archives on record."""
    repository = plan.repository
    copy = small_repository.copy(Path(repository.path))
    borg_id, archives = small_repository.as_made
    Repository.objects.filter(pk=repository.pk).update(
        borg_id=borg_id, passphrase_encrypted=encryption.encrypt(SMALL_PASSPHRASE)
    )
    for files, (name, item) in enumerate(archives.items(), 1):
        start = datetime.fromisoformat(item["start"]).replace(tzinfo=UTC)
        make_archive(plan, name=name, borg_id=item["id"], start=start, files=files, original_bytes=files * 200_000)
    repository.refresh_from_db()
    return copy
