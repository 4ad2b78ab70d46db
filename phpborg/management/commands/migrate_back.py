import re
import sys
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

LINE = re.compile(r"\[[X ]\]\s+(\w+)\.(\w+)")


class Command(BaseCommand):
    """The newer release runs it, which alone can undo what it did; the older one says what it knows."""

    help = (
        "Take back every migration that `showmigrations --plan` of an older release, on standard input, does not name."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        known = set(LINE.findall(sys.stdin.read()))
        if not known:
            raise CommandError("There is no list of migrations on standard input. Nothing is changed.")
        for app, target in targets(known):
            self.stdout.write(f"{app}: back to {target}")
            call_command("migrate", app, target, verbosity=0, interactive=False)


def targets(known: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of each app that must go back, the last migration that stays; the app with the youngest one comes first."""
    executor = MigrationExecutor(connection)
    plan = [key for key in order_of(executor) if key in executor.loader.applied_migrations]
    unwanted = [key for key in plan if key not in known]
    last = {app: name for app, name in plan if (app, name) in known}
    return [(app, last.get(app, "zero")) for app in dict.fromkeys(app for app, _ in reversed(unwanted))]


def order_of(executor: MigrationExecutor) -> list[tuple[str, str]]:
    leaves = executor.loader.graph.leaf_nodes()
    return [(migration.app_label, migration.name) for migration, _ in executor.migration_plan(leaves, clean_start=True)]
