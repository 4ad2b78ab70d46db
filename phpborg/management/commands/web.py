import os
from typing import Any

from django.core.management.base import BaseCommand

from phpborg.stack import web_command


class Command(BaseCommand):
    help = "Run the web process, or WEB_PROCESSES of them, until SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        command = web_command()
        os.execv(command[0], command)  # noqa: S606 - our own program, without a shell
