from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django_filters.fields import IsoDateTimeField

from accounts import audit, chain
from accounts.lists import json_lines
from accounts.query import UntilField

MISUNDERSTOOD = 2
WHEN = "as 2026-03-01, or 2026-03-01T08:00:00Z"


class Command(BaseCommand):
    help = (
        "Print the audit trail as JSON lines, the oldest entry first: `export_audit --since 2026-01-01 > audit.jsonl`."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", default="", help=f"from then on, {WHEN}")
        parser.add_argument("--until", default="", help=f"before then, or until the end of a day, {WHEN}")

    def handle(self, *args: Any, **options: Any) -> None:
        limits = {
            "at__gte": moment("--since", options["since"], IsoDateTimeField(required=False)),
            "at__lt": moment("--until", options["until"], UntilField(required=False)),
        }
        entries = chain.walked(**{lookup: limit for lookup, limit in limits.items() if limit})
        for entry in entries:
            self.stdout.write(json_lines([audit.as_data(entry)]), ending="")


def moment(option: str, text: str, field: IsoDateTimeField) -> datetime | None:
    """Raises CommandError."""
    try:
        found: datetime | None = field.clean(text)
    except ValidationError as error:
        raise CommandError(f"{option} takes a day or a time, {WHEN}.", returncode=MISUNDERSTOOD) from error
    return found
