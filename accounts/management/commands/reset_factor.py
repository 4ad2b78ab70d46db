from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import factor
from accounts.models import User


class Command(BaseCommand):
    help = "Take the second factor from somebody who lost it, when nobody is left who could do it on a page."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user “{options['username']}”.")
        if not factor.remove(user, action="factor.reset"):
            raise CommandError(f"{user.username} has no second factor.")
        self.stdout.write(f"{user.username} logs in with the password alone now, and sets up a new one if a role asks.")
