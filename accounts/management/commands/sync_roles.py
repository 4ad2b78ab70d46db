from typing import Any

from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.core.management.base import BaseCommand

from accounts.access import ROLES


class Command(BaseCommand):
    help = "Put the three roles back to what they may do; groups that you made yourself are left alone."

    def handle(self, *args: Any, **options: Any) -> None:
        for name, permissions in ROLES.items():
            role, _ = Group.objects.get_or_create(name=name)
            role.permissions.set(
                DjangoPermission.objects.filter(
                    content_type__app_label="accounts", content_type__model="user", codename__in=permissions
                )
            )
            self.stdout.write(f"{name}: {', '.join(sorted(permissions))}")
