import os
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import User
from backups.forms import PoolForm
from backups.models import StoragePool
from backups.pools import measure
from jobs.config import config
from phpborg.management.commands.serve import prepare, way_in
from phpborg.models import FirstRun
from phpborg.setup_views import AccountForm


class Command(BaseCommand):
    help = (
        "Print a token for /setup, the first run on the web. With --from-env do what that does, by variables: "
        "PHPBORG_ADMIN_PASSWORD (PHPBORG_ADMIN_USER, PHPBORG_ADMIN_EMAIL), PHPBORG_POOL_PATH (PHPBORG_POOL_NAME). "
        "Site and mail are live settings, whose defaults the environment has. It may be done again: what is there "
        "stays."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from-env", action="store_true", help="by the variables of the environment, for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        prepare()
        if options["from_env"]:
            self._from_env()
        elif User.objects.exists():
            raise CommandError("There are accounts already: the first run is over. Log in.")
        else:
            self.stdout.write(way_in())

    def _from_env(self) -> None:
        with transaction.atomic():  # all of it, or nothing
            self._account()
            self._pool()
            FirstRun.objects.update_or_create(
                pk=1,
                defaults={"token_sha256": "", "passed": list(FirstRun.STEPS), "finished_at": timezone.now()},
            )
        self.stdout.write(f"phpBorg is set up, at {config.SITE_URL}.")

    def _account(self) -> None:
        if User.objects.exists():
            self.stdout.write("There are accounts already; none is made.")
            return
        if not (password := os.environ.get("PHPBORG_ADMIN_PASSWORD", "")):
            raise CommandError("PHPBORG_ADMIN_PASSWORD is missing: the first administrator's password.")
        name = os.environ.get("PHPBORG_ADMIN_USER", "admin")
        sent = {"username": name, "email": os.environ.get("PHPBORG_ADMIN_EMAIL", "")}
        user = saved(AccountForm({**sent, "password1": password, "password2": password}))
        user.groups.add(Group.objects.get(name="ROLE_ADMIN"))
        audit.record("setup.account", user=user, target=name)
        self.stdout.write(f"The administrator {name} is made.")

    def _pool(self) -> None:
        """Also looked at, from here: on the machine whose workers reach it this is to be run."""
        if not (path := os.environ.get("PHPBORG_POOL_PATH", "").rstrip("/")):
            return
        pool = StoragePool.objects.filter(address="", path=path).first()
        if pool is None:
            sent = {
                "name": os.environ.get("PHPBORG_POOL_NAME", "main"),
                "path": path,
                "place": settings.WORKER_PLACES[0],
            }
            pool = saved(PoolForm(sent))
            audit.record("pool.added", target=pool.name, detail={"where": pool.where})
        if problem := measure(pool):
            raise CommandError(problem)
        self.stdout.write(f"Repositories go to {path}.")


def saved(form: forms.ModelForm[Any]) -> Any:
    """Raises CommandError with what a page would say."""
    if not form.is_valid():
        wrong = "; ".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items())
        raise CommandError(wrong)
    return form.save()
