"""Rules about people that no permission can say: who stays in charge, and who may change whom."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from accounts import audit, sessions
from accounts.access import ROLES, Permission, permissions_of, signed_in
from accounts.errors import Conflict, NotAllowed
from accounts.models import AuditEntry, User

ADMINISTRATORS = "ROLE_ADMIN"
ALL = {str(permission) for permission in Permission}


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
        return set(ALL)
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


@contextmanager
def changing(user: User, request: audit.AnyRequest) -> Iterator[None]:
    """What is done to `user` inside is recorded; what may not be is taken back. Raises NotAllowed, Conflict."""
    me = signed_in(request)
    refuse_beyond(me, user)
    stored = User.objects.get(pk=user.pk)  # a form may have filled in `user` by now
    before = audit.facts(stored)
    with somebody_stays_in_charge():
        yield
        if user == me and not user.is_active:
            raise Conflict(_("You cannot switch yourself off. Ask another administrator."))
        if more := beyond_reach(me, user):
            raise NotAllowed(_("You may not do this yourself: %(names)s.") % {"names": ", ".join(more)})
        if user.password != stored.password or not user.is_active:
            sessions.end_all(user)  # also those that would be good again once the account is switched on
        audit.record_change("user.changed", user, before, request=request)
        if user.password != stored.password:
            audit.record("user.password_set", request=request, target=user.username)


def dismiss(user: User, request: audit.AnyRequest) -> bool:
    """`remove`, for who is signed in; True if the row is gone. Raises NotAllowed, Conflict."""
    me = signed_in(request)
    refuse_beyond(me, user)
    if user == me:
        raise Conflict(_("You cannot remove yourself. Ask another administrator."))
    before = audit.facts(user)
    with somebody_stays_in_charge():
        is_gone = remove(user)
        detail = audit.difference(before, {} if is_gone else audit.facts(user))
        action = "user.deleted" if is_gone else "user.switched_off"
        audit.record(action, request=request, target=user.username, detail=detail)
    return is_gone


def has_done_something(user: User) -> bool:
    return AuditEntry.objects.filter(user=user).exists()


def remove(user: User) -> bool:
    """Delete `user`, or switch off who has done something; True if the row is gone.

    Whoever has done anything stays: jobs and the audit trail name them, and the name must not become somebody else's.
    """
    if has_done_something(user):
        user.is_active = False
        user.save(update_fields=["is_active"])
        sessions.end_all(user)
        return False
    user.delete()
    return True


# --- Roles ----------------------------------------------------------------------------------------


def givable(manager: User) -> list[Group]:
    """The roles that give nothing which `manager` does not have, by name."""
    has = set(permissions_of(manager))
    roles = Group.objects.prefetch_related("permissions").order_by("name")
    return [role for role in roles if {each.codename for each in role.permissions.all()} & ALL <= has]


def refuse_role(manager: User, role: Group) -> None:
    """Raise Conflict for the roles that phpBorg brings, NotAllowed for one that gives what `manager` does not have."""
    if role.name in ROLES:
        raise Conflict(_("phpBorg brings this role along, and it stays as it is. Make one of your own."))
    if more := beyond(manager, [role]):
        raise NotAllowed(_("You may not do this yourself: %(names)s.") % {"names": ", ".join(more)})


@contextmanager
def changing_role(role: Group, request: audit.AnyRequest) -> Iterator[None]:
    """As `changing`, of a role. Raises NotAllowed, Conflict."""
    me, before = signed_in(request), {}
    if role.pk:
        stored = Group.objects.get(pk=role.pk)
        refuse_role(me, stored)
        before = audit.facts(stored)
    with transaction.atomic():
        yield
        refuse_role(me, role)
        audit.record_change("role.changed" if before else "role.added", role, before, request=request)


@transaction.atomic
def delete_role(role: Group, request: audit.AnyRequest) -> None:
    """Whoever has it loses what it gives. Raises NotAllowed, Conflict."""
    refuse_role(signed_in(request), role)
    before = audit.facts(role)
    role.delete()
    audit.record("role.deleted", request=request, target=role.name, detail=audit.difference(before, {}))
