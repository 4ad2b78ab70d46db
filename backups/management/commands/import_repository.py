import sys
from getpass import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from backups.commandline import server_named
from backups.forms import ImportForm
from backups.models import StoragePool
from backups.runners.import_ import ImportRepository
from jobs.commandline import MISUNDERSTOOD, JobCommand, one_of
from jobs.models import Job
from jobs.runner import Refused


class Command(JobCommand):
    help = "Get to know a repository that exists: `import_repository disk/web-1 --server web-1`. It is not changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("repository", help="as pool/name, or its path on the worker's machine")
        parser.add_argument("--server", required=True, help="whose archives it holds")
        parser.add_argument("--passphrase-file", help="without it, it is asked for, or read from standard input")
        parser.add_argument("--key-file", help="if the repository does not hold its key: what `borg key export` prints")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        where, _, name = options["repository"].rstrip("/").rpartition("/")
        if not where:
            raise CommandError(f"Say where “{name}” lies: as pool/{name}, or by its path.", returncode=MISUNDERSTOOD)
        sent = {"server": server_named(options["server"]).pk, "name": name, **_place(where)}
        sent["passphrase"] = passphrase_from(options["passphrase_file"])
        sent["key"] = text_of(options["key_file"]) if options["key_file"] else ""
        form = ImportForm(sent)
        if not form.is_valid():
            wrong = "; ".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items())
            raise CommandError(wrong, returncode=MISUNDERSTOOD)
        try:
            jobs = [ImportRepository.begin(**form.chosen, trigger=Job.Trigger.USER)]
        except Refused as refusal:
            self.stderr.write(str(refusal))
            self.refused, jobs = True, []
        self.finish(jobs, options)


def _place(where: str) -> dict[str, Any]:
    if where.startswith("/"):
        return {"folder": where}
    pool: StoragePool = one_of(StoragePool, where, lambda name: StoragePool.objects.filter(name=name))
    return {"pool": pool.pk}


def passphrase_from(file: str | None) -> str:
    """Never from an argument, which every process list shows."""
    if file:
        text = text_of(file)
    elif sys.stdin.isatty():
        return getpass("Passphrase of the repository: ")
    else:
        text = sys.stdin.read()
    return text.removesuffix("\n").removesuffix("\r")


def text_of(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandError(f"{file} cannot be read: {why}.", returncode=MISUNDERSTOOD) from error
