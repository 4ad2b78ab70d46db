from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader


class Command(BaseCommand):
    help = "Fail if the database holds nothing of phpBorg, or is of a newer release."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            loader = MigrationLoader(connection)
        except DatabaseError as error:
            raise CommandError(
                f"The database cannot be used ({error}). Does it run, and is DATABASE_URL right?"
            ) from error
        applied = set(loader.applied_migrations)
        if not any(app == "accounts" for app, _ in applied):
            raise CommandError("This is no database of phpBorg.")
        known = set(loader.disk_migrations) | {key for m in loader.disk_migrations.values() for key in m.replaces}
        if unknown := sorted(f"{app}.{name}" for app, name in applied - known):
            raise CommandError(
                f"The database is of a newer release: this one does not know {', '.join(unknown)}. Take that release, "
                "or a newer one."
            )
