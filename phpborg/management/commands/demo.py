import os
import sys
import threading
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from phpborg.demo import Api, DemoFailed, Proof, Story
from phpborg.embedded import NotStarted, Sshd
from phpborg.management.commands.serve import admin_password, prepare, until_told
from phpborg.stack import Stack

WORKERS = 2


class Command(BaseCommand):
    help = "Everything on this machine with a throwaway SSH server, one real backup, and its proof."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="end after the proof")
        parser.add_argument("--path", type=Path, default=Path(os.environ.get("DEMO_PATH") or sys.prefix))

    def handle(self, *args: Any, **options: Any) -> None:
        source: Path = options["path"].resolve()
        if not source.exists():
            raise CommandError(f"DEMO_PATH: {source} does not exist.")
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # or our own processes would change what is being compared
        prepare()
        password = admin_password()
        directory = settings.DATA_DIR / "demo"
        logs = settings.DATA_DIR / "log"
        for folder in (directory, logs):
            folder.mkdir(mode=0o700, exist_ok=True)
        end = threading.Event()
        try:
            with until_told(end), Stack(workers=WORKERS, log_dir=logs) as stack, Sshd(directory / "sshd") as sshd:
                api = Api(f"http://127.0.0.1:{settings.PORT}", "admin", password)
                proof = Story(api, sshd, directory, source, self.stdout.write).play()
                self._tell_proof(proof)
                if not options["once"]:
                    self._tell_way_in(password)
                    stack.watch(end)
        except (NotStarted, DemoFailed) as error:
            raise CommandError(str(error)) from error
        if options["once"]:
            self.stdout.write(f"OK archive={proof.archive} files={proof.files} bytes={proof.bytes} identical")

    def _tell_proof(self, proof: Proof) -> None:
        self.stdout.write(
            f"\nProven: the archive {proof.archive} was made over SSH in {proof.seconds:.1f} s and restored;\n"
            f"all of its {proof.files} files, {proof.bytes} bytes, are identical to those on the server.\n"
        )

    def _tell_way_in(self, password: str) -> None:
        self.stdout.write(
            f"phpBorg is at http://localhost:{settings.PORT}\n"
            f"Log in as admin with the password {password}\n"
            "Ctrl-C ends it.\n"
        )
