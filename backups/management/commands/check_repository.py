from typing import Any

from django.core.management.base import CommandError, CommandParser

from backups.borg.commands import Depth
from backups.commandline import repository_named
from backups.models import Repository
from backups.runners.check import CheckRepository
from jobs.commandline import MISUNDERSTOOD, JobCommand


class Command(JobCommand):
    help = "Let borg check a repository, or --all of them. (`manage.py check` is Django's own.)"

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("repository", nargs="?", help="as pool/name")
        what.add_argument("--all", action="store_true", help="every repository, one after the other")
        parser.add_argument("--depth", choices=[depth.value for depth in Depth], default=Depth.FULL.value)
        parser.add_argument("--max-minutes", type=int, help="with --depth=repository: go on at the next such check")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        ready = Repository.objects.filter(state=Repository.State.READY).order_by("name")
        repositories = list(ready) if options["all"] else [repository_named(options["repository"])]
        if not repositories:
            raise CommandError("There is no repository yet.", returncode=MISUNDERSTOOD)
        parameters = {"depth": options["depth"], "max_minutes": options["max_minutes"]}
        self.run_all(CheckRepository, repositories, options, **parameters)
