"""Rules about people that no permission can say: who stays in charge, and who may change whom."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from accounts.access import Permission, permissions_of
from accounts.errors import Conflict, NotAllowed
from accounts.models import AuditEntry, User

ADMINISTRATORS = "ROLE_ADMIN"


def administrators() -> QuerySet[User]:
    """Those who can still do everything."""
    return User.objects.filter(Q(is_superuser=True) | Q(groups__name=ADMINISTRATORS), is_active=True)


@contextmanager
def somebody_stays_in_charge() -> Iterator[None]:
    """What happens to users inside is taken back if no administrator were left. Raises Conflict."""
    with transaction.atomic():
        # One at a time: of two administrators who remove each other at once, each would still see the other.
        list(Group.objects.select_for_update().filter(name=ADMINISTRATORS))
        had = administrators().exists()
        yield
        if had and not administrators().exists():
            raise Conflict(_("This is the last administrator. Make somebody else one first."))


def reach_of(user: User) -> set[str]:
    """What `user` may do, or could once switched on again."""
    if user.is_superuser:
        return {str(permission) for permission in Permission}
    return _names(DjangoPermission.objects.filter(Q(group__user=user) | Q(user=user)))


def beyond_reach(manager: User, user: User) -> list[str]:
    """What `user` may do and `manager` may not, sorted."""
    return sorted(reach_of(user) - set(permissions_of(manager)))


def refuse_beyond(manager: User, user: User) -> None:
    """Raise NotAllowed if `user` may do what `manager` may not: with their password one could.

    It also keeps an API token within what it was made for.
    """
    if beyond_reach(manager, user):
        raise NotAllowed(_("%(name)s may do more than you. Ask an administrator.") % {"name": user.username})


def beyond(manager: User, roles: Iterable[Group]) -> list[str]:
    """What `roles` give that `manager` does not have to give, sorted."""
    return sorted(_names(DjangoPermission.objects.filter(group__in=roles)) - set(permissions_of(manager)))


def _names(permissions: QuerySet[DjangoPermission]) -> set[str]:
    return set(permissions.filter(codename__in=list(Permission)).values_list("codename", flat=True))


def remove(user: User) -> bool:
    """Delete `user`, or switch off who has done something; True if the row is gone.

    Whoever has done anything stays: jobs and the audit trail name them, and the name must not become somebody else's.
    """
    if AuditEntry.objects.filter(user=user).exists():
        user.is_active = False
        user.save(update_fields=["is_active"])
        return False
    user.delete()
    return True
