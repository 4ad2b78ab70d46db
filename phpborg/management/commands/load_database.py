from typing import Any

from django.core.management.base import BaseCommand

from phpborg import databases


class Command(BaseCommand):
    help = "Put what dump_database wrote, from standard input, in the place of the whole database."

    def handle(self, *args: Any, **options: Any) -> None:
        databases.load()
