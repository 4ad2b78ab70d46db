import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.chain import Broken, verify

MISUNDERSTOOD = 2
NOTED = re.compile(r"([1-9]\d{0,17}):([0-9a-f]{64})")


class Command(BaseCommand):
    help = (
        "Look whether the audit trail is as it was written: no entry altered, moved or missing. "
        "Exit codes: 0 all whole, 1 it is not, and the first that is wrong is said; 2 a wrong use."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--expect", metavar="NUMBER:DIGEST", default="",
            help="what an earlier run ended with, noted where nobody of this site can change it",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            head = verify(noted_in(options["expect"]))
        except Broken as broken:
            raise CommandError(f"{broken} {whole(broken.whole)}") from broken
        self.stdout.write(whole(head.number))
        if head.number:
            self.stdout.write(str(head))


def noted_in(text: str) -> tuple[int, str] | None:
    """Raises CommandError."""
    if not text:
        return None
    if not (found := NOTED.fullmatch(text)):
        raise CommandError("--expect takes what an earlier run ended with: NUMBER:DIGEST.", returncode=MISUNDERSTOOD)
    return int(found[1]), found[2]


def whole(number: int) -> str:
    if number == 1:
        return "1 entry is whole."
    return f"{number:,} entries are whole."
