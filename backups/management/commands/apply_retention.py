import json
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from backups.commandline import plan_named
from backups.models import Plan
from backups.retention import as_data, decide, objection
from backups.runners.prune import PruneArchives
from jobs.commandline import MISUNDERSTOOD, JobCommand


class Command(JobCommand):
    help = (
        "Start retention where something would go, or with --dry-run only show what that is. "
        "Exit codes: 0 all well, 1 something failed, was refused or is more than may go at once, 2 a wrong use."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--plan", help="only this one, as server/plan; else every plan with a retention policy")
        parser.add_argument("--dry-run", action="store_true", help="change nothing")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"] and options["wait"]:
            raise CommandError("There is nothing to wait for in a --dry-run.", returncode=MISUNDERSTOOD)
        kept = Plan.objects.with_scope().exclude(retention=None).order_by("server__name", "name")
        plans = [plan_named(options["plan"])] if options["plan"] else list(kept)
        if options["dry_run"]:
            self._show(plans, as_json=options["json"])
        else:
            # A plan that was asked for by name is refused in words; the others just have nothing to do.
            ready = [plan for plan in plans if options["plan"] or decide(plan).going]
            self.run_all(PruneArchives, ready, options)

    def _show(self, plans: list[Plan], *, as_json: bool) -> None:
        told = [
            {"plan": f"{plan.server.name}/{plan.name}", "refused": objection(plan), **as_data(decide(plan))}
            for plan in plans
        ]
        if as_json:
            self.stdout.write(json.dumps(told, cls=DjangoJSONEncoder))
        else:
            for one in told:
                self._print(one)
        sys.exit(1 if any(one["refused"] or one["too_many"] for one in told) else 0)

    def _print(self, told: dict[str, Any]) -> None:
        self.stdout.write(f"{told['plan']}: {len(told['kept'])} stay, {len(told['going'])} would go")
        for one in told["kept"]:
            self.stdout.write(f"  stays  {one['name']}  {one['why']}")
        for one in told["going"]:
            self.stdout.write(f"  goes   {one['name']}")
        if told["refused"]:
            self.stderr.write(told["refused"])
        if told["too_many"]:
            self.stderr.write(f"{told['plan']}: more than the {told['most_deletions']} that may go at once; none goes.")
