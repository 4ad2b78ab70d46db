"""What the commands share that start jobs: `--wait` follows them to their end, `--json` is for machines.

Exit codes, for cron and for monitoring: 0 all completed (or, without `--wait`, started), 1 one failed,
was cancelled or refused, 2 the command was not understood.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model, QuerySet

from jobs.models import Job
from jobs.runner import JobRunner, Refused
from jobs.serializers import JobSerializer

POLL_SECONDS = 0.5
BAR_CHARACTERS = 30
MISUNDERSTOOD = 2


class JobCommand(BaseCommand):
    """Starts jobs and tells what became of them."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--wait", action="store_true", help="until they have ended; Ctrl-C leaves them running")
        parser.add_argument("--json", action="store_true", help="for programs: the jobs as the API shows them")

    def run_all(
        self, runner: type[JobRunner[Any]], subjects: Sequence[Model], options: dict[str, Any], **parameters: Any
    ) -> None:
        """Start `runner` on each of `subjects`, wait if asked, tell, and exit."""
        self.finish([job for subject in subjects if (job := self._enqueue(runner, subject, parameters))], options)

    def _enqueue(self, runner: type[JobRunner[Any]], subject: Model, parameters: dict[str, Any]) -> Job | None:
        form = runner.form(parameters)
        if not form.is_valid():
            wrong = "; ".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items())
            raise CommandError(wrong, returncode=MISUNDERSTOOD)
        try:
            return runner.enqueue(subject, trigger=Job.Trigger.USER, **form.cleaned_data)
        except Refused as refusal:
            self.refused = True
            self.stderr.write(str(refusal))
            return None

    def finish(self, jobs: Sequence[Job], options: dict[str, Any]) -> None:
        if options["wait"]:
            for job in jobs:
                self._follow(job, quiet=options["json"])
        if options["json"]:
            self.stdout.write(json.dumps(JobSerializer(jobs, many=True).data, cls=DjangoJSONEncoder))
        else:
            for job in jobs:
                self.stdout.write(one_line(job))
        lost = getattr(self, "refused", False) or (
            options["wait"] and any(job.status != Job.Status.COMPLETED for job in jobs)
        )
        sys.exit(1 if lost else 0)

    def _follow(self, job: Job, *, quiet: bool) -> None:
        shows = not quiet and self.stderr.isatty()
        while not job.has_ended:
            time.sleep(POLL_SECONDS)
            job.refresh_from_db()
            if shows:
                self.stderr.write(f"\r\033[K{progress_line(job)}", ending="")
                self.stderr.flush()
        if shows:
            self.stderr.write("\r\033[K", ending="")


def one_line(job: Job) -> str:
    """As “4b1c... backup completed”, with the sentence of a failure."""
    return f"{job.pk} {job.type} {job.status}{f': {job.error} {job.advice}'.rstrip() if job.error else ''}"


def progress_line(job: Job) -> str:
    known = job.progress
    percent = known.get("percent")
    if percent is None:
        files = known.get("files")
        return f"{job.type} {job.status}" + (f", {files:,} files, {known.get('original', 0):,} bytes" if files else "")
    done = int(percent) * BAR_CHARACTERS // 100
    return f"{job.type} [{'#' * done}{' ' * (BAR_CHARACTERS - done)}] {percent} %"


def one_of(model: type[Model], value: str, find: Callable[[str], "QuerySet[Any]"]) -> Any:
    """The only thing that `find` finds for what was typed. Raises CommandError."""
    found = list(find(value)[:2])
    name = model._meta.verbose_name
    if not found:
        raise CommandError(f"There is no {name} “{value}”.", returncode=MISUNDERSTOOD)
    if len(found) > 1:
        raise CommandError(f"There are several of the name “{value}”: say which.", returncode=MISUNDERSTOOD)
    return found[0]
