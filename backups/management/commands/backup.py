from typing import Any

from django.core.management.base import CommandError, CommandParser

from backups.commandline import plan_named, server_named
from backups.runners.create import RunBackup
from jobs.commandline import MISUNDERSTOOD, JobCommand


class Command(JobCommand):
    help = "Run the plans of a server now, or one plan: `backup web-1 --wait`, `backup --plan web-1/files`."

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("server", nargs="?", help="all plans of this server that are not paused")
        what.add_argument("--plan", help="one plan, as server/plan")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["plan"]:
            plans = [plan_named(options["plan"])]
        else:
            plans = list(server_named(options["server"]).plans.filter(enabled=True).order_by("name"))
        if not plans:
            raise CommandError(f"{options['server']} has no plan that is not paused.", returncode=MISUNDERSTOOD)
        self.run_all(RunBackup, plans, options)
