import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from jobs.log import as_text, printable
from jobs.models import Job, LogLine
from jobs.serializers import JobSerializer, LogLineSerializer

EXIT_CODES = {Job.Status.COMPLETED: 0, Job.Status.FAILED: 1, Job.Status.CANCELLED: 1}
NOT_ENDED, UNKNOWN = 2, 3
WATCH_SECONDS = 1.0
CLEAR = "\033[H\033[J"
COLUMNS = ("ID", "STATUS", "TYPE", "SERVER", "CREATED", "TOOK", "")


class Command(BaseCommand):
    help = (
        "List jobs, or show one with its log. With an ID the exit code is 0 for completed, 1 for failed or "
        "cancelled, 2 while it waits or runs, 3 for an ID or a use that is not known."
    )
    understood = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", nargs="?", help="show this job")
        parser.add_argument("--status", action="append", help=f"only these: {', '.join(Job.Status)}")
        parser.add_argument("--server", help="only those of the server with this name")
        parser.add_argument("--limit", type=int, default=20, help="at most so many (default: 20)")
        parser.add_argument("--json", action="store_true", help="for programs")
        parser.add_argument("--watch", action="store_true", help="show it again as it changes; of one job, its log")

    def run_from_argv(self, argv: list[str]) -> None:
        """What argparse does not understand ends with 2 elsewhere; here that says that a job has not ended."""
        try:
            super().run_from_argv(argv)
        except SystemExit as end:
            raise SystemExit(end.code if self.understood else UNKNOWN if end.code else 0) from None

    def handle(self, *args: Any, **options: Any) -> None:
        self.understood = True
        try:
            if options["id"] is None:
                self._list(options)
            elif code := self._show(job_of(options["id"]), options):
                sys.exit(code)
        except KeyboardInterrupt:
            sys.exit(130)

    # --- Many --------------------------------------------------------------------------------------

    def _list(self, options: dict[str, Any]) -> None:
        if unknown := set(options["status"] or []) - set(Job.Status):
            raise CommandError(f"There is no status {', '.join(sorted(unknown))}.", returncode=UNKNOWN)
        if options["limit"] < 1:
            raise CommandError("--limit must be at least 1.", returncode=UNKNOWN)
        while True:
            jobs = self._found(options)
            if options["json"]:
                self._print_json(JobSerializer(jobs, many=True).data)
            else:
                if options["watch"] and self.stdout.isatty():
                    self.stdout.write(CLEAR, ending="")
                self._print(table(jobs))
            if not options["watch"]:
                return
            self.stdout.flush()
            time.sleep(WATCH_SECONDS)

    def _found(self, options: dict[str, Any]) -> list[Job]:
        jobs = Job.objects.with_scope().order_by("-created_at", "-id")
        if options["status"]:
            jobs = jobs.filter(status__in=options["status"])
        if options["server"]:
            jobs = jobs.filter(server__name=options["server"])
        return list(jobs[: options["limit"]])

    # --- One ---------------------------------------------------------------------------------------

    def _show(self, job: Job, options: dict[str, Any]) -> int:
        if options["json"]:
            while options["watch"] and not job.has_ended:
                time.sleep(WATCH_SECONDS)
                job.refresh_from_db()
            lines = LogLine.objects.filter(job=job).after(0).select_related("job")
            self._print_json({**JobSerializer(job).data, "log": LogLineSerializer(lines, many=True).data})
        else:
            self._print(about(job))
            self._print(as_text(self._lines(job, watch=options["watch"]), job))
            if options["watch"]:
                self._print(about(job))
        return EXIT_CODES.get(Job.Status(job.status), NOT_ENDED)

    def _lines(self, job: Job, *, watch: bool) -> Iterator[LogLine]:
        """The lines of the job's log; if `watch`, also those that are still to come."""
        cursor = 0
        while True:
            ended = job.has_ended  # asked before the lines are read, so that none of the last ones is missed
            for line in LogLine.objects.filter(job=job).after(cursor).iterator():
                cursor = line.number
                yield line
            if ended or not watch:
                return
            self.stdout.flush()
            time.sleep(WATCH_SECONDS)
            job.refresh_from_db()

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.stdout.write(line)

    def _print_json(self, data: Any) -> None:
        self.stdout.write(json.dumps(data, cls=DjangoJSONEncoder, ensure_ascii=False))


def job_of(text: str) -> Job:
    try:
        job = Job.objects.with_scope().filter(pk=UUID(text)).first()
    except ValueError:
        job = None
    if job is None:
        raise CommandError(f"There is no job {text}.", returncode=UNKNOWN)
    return job


def table(jobs: list[Job]) -> Iterator[str]:
    rows = [COLUMNS, *(row(job) for job in jobs)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(COLUMNS))]
    for cells in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def row(job: Job) -> tuple[str, ...]:
    return (
        str(job.pk), job.status, job.type, printable(job.server.name) if job.server else "",
        f"{job.created_at:%Y-%m-%dT%H:%M:%SZ}", took(job), printable(note(job))[:100],
    )  # fmt: skip


def took(job: Job) -> str:
    return "" if job.seconds is None else f"{job.seconds:.0f} s"


def note(job: Job) -> str:
    """What a list says of a job in a few words."""
    if job.is_tried_again:
        return f"attempt {job.attempts} of {job.max_attempts} failed, next at {job.not_before:%H:%M:%SZ}: {job.error}"
    percent = job.progress.get("percent")
    return f"{percent} %" if job.status == Job.Status.RUNNING and percent is not None else job.error


def about(job: Job) -> Iterator[str]:
    """The head of a job: what it is, how it stands, what went wrong and what to do about it."""
    yield f"{job.type} {job.pk}: {job.status}, attempt {max(job.attempts, 1)} of {job.max_attempts}"
    facts = {
        "server": job.server, "plan": job.plan, "repository": job.repository, "took": took(job),
        "next attempt": job.not_before, "error": job.error, "advice": job.advice,
    }  # fmt: skip
    for name, value in facts.items():
        if value:
            yield f"  {name}: {printable(str(value))}"
