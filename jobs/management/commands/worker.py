from typing import Any
from uuid import uuid4

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections
from redis import RedisError

from accounts import encryption
from jobs import periodic, queue
from jobs.config import config
from jobs.models import Job


class Command(BaseCommand):
    help = "Do jobs until SIGTERM; the running job is ended first, a second SIGTERM kills it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "places", nargs="*", default=settings.WORKER_PLACES,
            help="whose queues to serve, of WORKER_PLACES (default: all)",
        )  # fmt: skip
        parser.add_argument("--burst", action="store_true", help="end when the queues are empty")

    def handle(self, *args: Any, **options: Any) -> None:
        if unknown := set(options["places"]) - set(settings.WORKER_PLACES):
            raise CommandError(f"WORKER_PLACES does not name {', '.join(sorted(unknown))}.")
        try:
            encryption.verify()
        except encryption.WrongKey as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(
                f"The database cannot be used ({error}). Does it run, is DATABASE_URL right, and was `migrate` run?"
            ) from error
        Job.objects.filter(pk=uuid4()).first()  # each job's process inherits what Django works out once
        config.read()  # the same: what is known if the database is away, and what the log was told
        periodic.begin()
        connections.close_all()  # nothing open may be shared with the forked children
        try:
            queue.connection().ping()
            queue.work(
                options["places"], burst=options["burst"], lost=periodic.reap_process, meanwhile=periodic.go_on,
                log_level="INFO" if options["verbosity"] > 1 else "WARNING",
            )  # fmt: skip
        except RedisError as error:
            raise CommandError(f"Redis cannot be used ({error}). Does it run, and is REDIS_URL right?") from error
