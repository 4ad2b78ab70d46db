"""The three roles: made by the migration, repaired by sync_roles."""

import importlib
from io import StringIO

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.core.management import call_command
from django.db import connection

from accounts.access import ROLES, Permission

migration = importlib.import_module("accounts.migrations.0002_roles")


def held() -> dict[str, set[str]]:
    """The permissions of every group."""
    return {
        group.name: set(group.permissions.values_list("codename", flat=True))
        for group in Group.objects.prefetch_related("permissions")
    }


EXPECTED = {name: {str(permission) for permission in permissions} for name, permissions in ROLES.items()}


@pytest.fixture
def nothing(db: None) -> None:
    Group.objects.all().delete()
    DjangoPermission.objects.filter(codename__in=list(Permission)).delete()


def test_the_migration_makes_roles_and_permissions(nothing: None) -> None:
    migration.make(apps, connection.schema_editor())
    assert held() == EXPECTED


def test_the_migration_may_run_over_what_is_there(db: None) -> None:
    migration.make(apps, connection.schema_editor())
    migration.make(apps, connection.schema_editor())
    assert held() == EXPECTED
    assert DjangoPermission.objects.filter(codename__in=list(Permission)).count() == len(Permission)


def test_the_migration_can_be_taken_back(db: None) -> None:
    migration.make(apps, connection.schema_editor())
    migration.remove(apps, connection.schema_editor())
    assert held() == {}


def test_sync_roles_puts_back_what_was_taken_and_given(db: None) -> None:
    call_command("sync_roles", stdout=StringIO())
    viewers = Group.objects.get(name="ROLE_VIEWER")
    viewers.permissions.set(DjangoPermission.objects.filter(codename__in=["server.manage", "user.manage"]))
    Group.objects.get(name="ROLE_OPERATOR").delete()
    call_command("sync_roles", stdout=StringIO())
    assert held() == EXPECTED


def test_sync_roles_leaves_own_groups_alone(db: None) -> None:
    mine = Group.objects.create(name="restorers")
    mine.permissions.add(DjangoPermission.objects.get(codename="backup.restore"))
    call_command("sync_roles", stdout=StringIO())
    assert held()["restorers"] == {"backup.restore"}


def test_sync_roles_says_what_each_role_may(db: None) -> None:
    said = StringIO()
    call_command("sync_roles", stdout=said)
    assert "ROLE_VIEWER: backup.view, logs.view, server.view\n" in said.getvalue()


def test_there_are_no_permissions_of_djangos_own(db: None) -> None:
    """Add, change, delete and view of our tables would be a second answer to "may they?"."""
    ours = DjangoPermission.objects.filter(content_type__app_label__in=["accounts", "jobs", "servers", "backups"])
    assert set(ours.values_list("codename", flat=True)) == {str(permission) for permission in Permission}
