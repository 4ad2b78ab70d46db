from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backups.proofs import NoEvidence, is_of_this_site, is_signed, read_file
from jobs.commandline import MISUNDERSTOOD


class Command(BaseCommand):
    help = (
        "Look whether the downloaded evidence of a restore test is genuine. "
        "Exit codes: 0 signed by this site, or by --key; 1 changed, or signed by somebody else; 2 a wrong use."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--key", default="", help="the public key to trust, instead of this site's own")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            evidence, signature, public_key = read_file(options["file"].read_text())
        except (OSError, ValueError, NoEvidence) as error:
            raise CommandError(str(error), returncode=MISUNDERSTOOD) from error
        if not is_signed(evidence, signature, public_key):
            raise CommandError("The signature does not fit: the evidence was changed after it was made.")
        trusted = public_key == options["key"].lower() if options["key"] else is_of_this_site(public_key)
        if not trusted:
            raise CommandError(f"It is as it was made, but signed by somebody else: {public_key}.")
        self.stdout.write("The evidence is as it was made, and signed by the key that is trusted.")
