from typing import Any

from django.core.management.base import CommandParser

from backups.commandline import archive_named
from backups.runners.restore import RestoreFiles
from jobs.commandline import JobCommand


class Command(JobCommand):
    help = "Restore an archive, or paths of it, into a directory on its server: `restore web-1-files-... /srv/restore`."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("archive", help="the archive's name")
        parser.add_argument("directory", help="on the server; made if it does not exist")
        parser.add_argument("paths", nargs="*", help="as in the archive; none: everything")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        archive = archive_named(options["archive"])
        parameters = {"directory": options["directory"], "paths": options["paths"], "entries": []}
        self.run_all(RestoreFiles, [archive], options, **parameters)
