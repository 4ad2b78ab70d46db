from typing import Any

from django.core.management.base import BaseCommand

from phpborg import databases


class Command(BaseCommand):
    help = "Write all of the database to standard output: SQL of MariaDB, or the file of SQLite."

    def handle(self, *args: Any, **options: Any) -> None:
        databases.dump()
