from typing import Any

from django.core.management.base import BaseCommand

from backups import tally


class Command(BaseCommand):
    help = (
        "Count anew how the backups of each hour ended, and each plan's last, from the jobs that are still known. That "
        "is kept as backups end, so this is only for rows that were written behind phpBorg's back."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        hours = tally.rebuild()
        self.stdout.write(f"Counted the backups of {hours} hours.")
