from typing import Any

from django.core.management.base import CommandError, CommandParser

from backups.commandline import plan_named
from backups.models import Plan
from backups.runners.prune import PruneArchives
from jobs.commandline import MISUNDERSTOOD, JobCommand


class Command(JobCommand):
    help = "Delete what a plan's retention policy does not keep; `apply_retention --dry-run` shows what that is."

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("plan", nargs="?", help="as server/plan")
        what.add_argument("--all", action="store_true", help="every plan that has a retention policy")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        kept = Plan.objects.filter(enabled=True).exclude(retention=None).order_by("server__name", "name")
        plans = list(kept) if options["all"] else [plan_named(options["plan"])]
        if not plans:
            raise CommandError("No plan has a retention policy.", returncode=MISUNDERSTOOD)
        self.run_all(PruneArchives, plans, options)
