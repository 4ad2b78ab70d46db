from dataclasses import fields
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from phpborg.bulk import settle
from phpborg.fleet import Fleet, NotPossible, Size


class Command(BaseCommand):
    help = "Fill an empty database with a made-up fleet of servers and their past, for measurements."

    def add_arguments(self, parser: CommandParser) -> None:
        for each in fields(Size):
            parser.add_argument(f"--{each.name.replace('_', '-')}", type=int, default=each.default)

    def handle(self, *args: Any, **options: Any) -> None:
        size = Size(**{each.name: options[each.name] for each in fields(Size)})
        try:
            Fleet(size, self.stdout.write).make()
        except NotPossible as error:
            raise CommandError(str(error)) from error
        settle()
