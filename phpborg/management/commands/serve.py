import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import audit, encryption
from accounts.models import User
from jobs.config import config
from phpborg.embedded import NotStarted
from phpborg.models import FirstRun
from phpborg.settings import generated
from phpborg.stack import Stack


class Command(BaseCommand):
    help = "Run everything on this machine: database, Redis, web, workers, scheduler. Ctrl-C ends it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workers", type=int, default=int(os.environ.get("PHPBORG_WORKERS", "3")))

    def handle(self, *args: Any, **options: Any) -> None:
        prepare()
        self._first_login()
        stack = Stack(workers=options["workers"])
        end = threading.Event()
        with until_told(end):
            try:
                stack.start()
            except NotStarted as error:
                raise CommandError(str(error)) from error
            self.stdout.write(f"phpBorg is at {config.SITE_URL} (Ctrl-C ends it).")
            stack.watch(end)
            self.stdout.write("Ending. Running jobs are finished first; Ctrl-C again does not wait for them.")
            try:
                stack.stop()
            except KeyboardInterrupt:
                stack.stop(patient=False)

    def _first_login(self) -> None:
        if User.objects.exists():
            return
        if not os.environ.get("PHPBORG_ADMIN_PASSWORD"):
            self.stdout.write(way_in())
            return
        admin_password()
        self.stdout.write("There was no user yet: log in as admin, with the password in PHPBORG_ADMIN_PASSWORD.")


def way_in() -> str:
    """What the console says to whoever may make the first account."""
    return (
        f"Nobody has an account here yet. Open {config.SITE_URL}/setup and enter this token, which is good once:\n\n"
        f"    {FirstRun.begin()}\n"
    )


def admin_password() -> str:
    """The password of the user admin, who is made if need be: PHPBORG_ADMIN_PASSWORD, or a random one that is kept."""
    password = os.environ.get("PHPBORG_ADMIN_PASSWORD") or generated("admin_password", secrets.token_urlsafe(12))
    admin, is_new = User.objects.get_or_create(username="admin")
    admin.groups.add(Group.objects.get(name="ROLE_ADMIN"))
    if is_new:
        audit.record_change("user.added", admin, {})
    if not admin.check_password(password):
        admin.set_password(password)
        admin.save(update_fields=["password"])
    return password


@contextmanager
def until_told(end: threading.Event) -> Iterator[None]:
    """Inside the block SIGINT and SIGTERM set `end`; the second one raises KeyboardInterrupt."""

    def stop(*_: object) -> None:
        if end.is_set():
            raise KeyboardInterrupt
        end.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def prepare() -> None:
    """Database and static files up to date, and the encryption key proven. Raises CommandError."""
    call_command("migrate", verbosity=0, interactive=False)
    if not (settings.STATIC_ROOT / "staticfiles.json").exists():
        call_command("collectstatic", verbosity=0, interactive=False)
    try:
        encryption.verify()
    except encryption.WrongKey as error:
        raise CommandError(str(error)) from error
