import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from jobs.management.commands.scheduler import beat, run
from jobs.periodic import registry


class Command(BaseCommand):
    help = (
        "One round of all periodic work, for people who prefer cron to `scheduler`: call it every minute. The exit "
        "code is 1 when a piece failed; the others have run all the same, and schedulers may run beside it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs: what ran, and what of it failed")

    def handle(self, *args: Any, **options: Any) -> None:
        beat()
        # Each piece finds in the database what is due, so running it more often than it asks for is harmless.
        done = {work.name: run(work) for work in registry}
        failed = [name for name, is_well in done.items() if not is_well]
        if options["json"]:
            self.stdout.write(json.dumps({"ran": list(done), "failed": failed}))
        else:
            for name in failed:
                self.stderr.write(f"{name} failed; the log says why.")
        sys.exit(1 if failed else 0)
