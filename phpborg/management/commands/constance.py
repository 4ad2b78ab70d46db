from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    """In the place of django-constance's own, which keeps no audit trail, and stores a default when it shows one."""

    help = "Not here: PUT /api/settings changes the settings, and GET shows them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("words", nargs="*")

    def handle(self, *args: Any, **options: Any) -> None:
        raise CommandError(self.help)
