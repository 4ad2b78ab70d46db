"""Pages about users and roles, for who manages them. What may be done is in accounts/people.py."""

from collections.abc import Iterator
from itertools import chain

from django.contrib import messages
from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Count, Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import audit, factor, sessions, tokens
from accounts.access import PERMISSION_LABELS, ROLE_LABELS, ROLES, Permission, require, signed_in
from accounts.errors import Conflict, NotAllowed
from accounts.filters import UserFilter
from accounts.forms import NAME_TAKEN, AccountForm, RoleForm
from accounts.lists import Deep, as_csv, in_batches, is_csv, ordered
from accounts.meantime import Meantime
from accounts.models import ApiToken, RoleRule, User
from accounts.people import (
    changing,
    changing_role,
    delete_role,
    dismiss,
    has_done_something,
    refuse_beyond,
    refuse_role,
)
from accounts.views import say_ended


@require_GET
@require(Permission.USER_MANAGE)
def users(request: HttpRequest) -> HttpResponseBase:
    found = UserFilter(request.GET, User.objects.prefetch_related("groups").order_by("username"))
    rows = (
        ordered(found.qs, request, "username", "last_login", "date_joined") if found.is_valid() else User.objects.none()
    )
    if is_csv(request):
        return as_csv("users", user_table(rows))
    roles = [
        (name, ROLE_LABELS.get(name, name)) for name in Group.objects.order_by("name").values_list("name", flat=True)
    ]
    page = Deep(rows, 50).get_page(request.GET.get("page"))
    return render(request, "accounts/users.html", {"page": page, "filter": found, "roles": roles})


def user_table(rows: QuerySet[User]) -> Iterator[tuple[object, ...]]:
    yield (
        _("User"),
        _("First name"),
        _("Last name"),
        _("E-mail"),
        _("Roles"),
        _("May log in"),
        _("Last login"),
        _("Added"),
    )
    for user in chain.from_iterable(in_batches(rows)):
        yield (
            user.username, user.first_name, user.last_name, user.email, ", ".join(user.roles), user.is_active,
            user.last_login, user.date_joined,
        )  # fmt: skip


@sensitive_variables("form")
@sensitive_post_parameters("new_password")
@require_http_methods(["GET", "POST"])
@require(Permission.USER_MANAGE)
def user_add(request: HttpRequest) -> HttpResponse:
    form = AccountForm(request.POST or None, manager=signed_in(request))
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                user = form.save()
                audit.record_change("user.added", user, {}, request=request)
        except IntegrityError:  # somebody has taken the name since we looked
            form.add_error("username", NAME_TAKEN)
        else:
            messages.success(request, _("%(name)s is added, and can log in.") % {"name": user.username})
            return redirect("users")
    return render(request, "accounts/user.html", {"form": form}, status=400 if form.errors else 200)


@sensitive_variables("form")
@sensitive_post_parameters("new_password")
@require_http_methods(["GET", "POST"])
@require(Permission.USER_MANAGE)
def user_edit(request: HttpRequest, pk: int) -> HttpResponse:
    user, me = get_object_or_404(User, pk=pk), signed_in(request)
    name = user.username
    try:
        refuse_beyond(me, user)
    except NotAllowed as refusal:
        return render(request, "accounts/user.html", {"name": name, "refusal": refusal.detail}, status=403)
    form = AccountForm(request.POST or None, instance=user, manager=me)
    meantime = Meantime(request, form)
    if request.method == "POST" and form.is_valid() and meantime.is_free():
        try:
            with changing(user, request):
                form.save()
        except (Conflict, NotAllowed) as refusal:
            form.add_error(None, str(refusal.detail))
        except IntegrityError:
            form.add_error("username", NAME_TAKEN)
        else:
            messages.success(request, _("%(name)s is saved.") % {"name": user.username})
            return redirect("users")
    context = {"form": form, "meantime": meantime, "name": name, "pk": pk, "is_me": user == me}
    context |= {
        "has_factor": factor.is_set_up(user), "account": user, "logins": sessions.logins_of(user),
        "tokens": ApiToken.objects.of(user)[: sessions.MOST],
    }  # fmt: skip
    return render(request, "accounts/user.html", context, status=400 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@require(Permission.USER_MANAGE)
def user_delete(request: HttpRequest, pk: int) -> HttpResponse:
    user = get_object_or_404(User, pk=pk)
    if request.method == "POST":
        if request.POST.get("name") != user.username:
            messages.error(request, _("Type the user's name to confirm."))
            return redirect("user_delete", pk=pk)
        try:
            is_gone = dismiss(user, request)
        except (Conflict, NotAllowed) as refusal:
            messages.error(request, str(refusal.detail))
            return redirect("user_edit", pk=pk)
        sentence = _("%(name)s is deleted.") if is_gone else _("%(name)s is switched off. Every session has ended.")
        messages.success(request, sentence % {"name": user.username})
        return redirect("users")
    return render(request, "accounts/user_delete.html", {"account": user, "stays": has_done_something(user)})


@require_POST
@require(Permission.USER_MANAGE)
def user_login_end(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    user = get_object_or_404(User, pk=pk)
    if _may_end(request, user):
        say_ended(request, was_there=sessions.end(user, name, request))
    return redirect("user_edit", pk=pk)


@require_POST
@require(Permission.USER_MANAGE)
def user_logins_end(request: HttpRequest, pk: int) -> HttpResponse:
    user = get_object_or_404(User, pk=pk)
    if _may_end(request, user):
        sessions.end_others(user, request)
        messages.success(request, _("Every session and login of %(name)s has ended.") % {"name": user.username})
    return redirect("user_edit", pk=pk)


@require_POST
@require(Permission.USER_MANAGE)
def user_token_revoke(request: HttpRequest, pk: int, token: int) -> HttpResponse:
    user = get_object_or_404(User, pk=pk)
    found = ApiToken.objects.of(user).filter(pk=token).first()
    if found and _may_end(request, user):
        tokens.revoke_api_token(found, request)
        messages.success(request, _("The token “%(name)s” is revoked.") % {"name": found.name})
    return redirect("user_edit", pk=pk)


def _may_end(request: HttpRequest, user: User) -> bool:
    """Not of who may do more: whoever keeps administrators out has the place to themselves."""
    try:
        refuse_beyond(signed_in(request), user)
    except NotAllowed as refusal:
        messages.error(request, str(refusal.detail))
        return False
    return True


# --- Roles ----------------------------------------------------------------------------------------


@require_GET
@require(Permission.USER_MANAGE)
def roles(request: HttpRequest) -> HttpResponseBase:
    ours = DjangoPermission.objects.filter(codename__in=list(Permission))
    found = Group.objects.prefetch_related(Prefetch("permissions", ours)).annotate(members=Count("user"))
    found = ordered(found.order_by("name"), request, "name", "members")
    if is_csv(request):
        return as_csv("roles", role_table(found))
    page = Paginator(found, 50).get_page(request.GET.get("page"))
    rows = [{"role": role, "may": labels_of(role), "is_ours": role.name in ROLES} for role in page]
    return render(request, "accounts/roles.html", {"page": page, "rows": rows})


def labels_of(role: Group) -> list[str]:
    """What it may, in the order in which permissions are always told."""
    held = {permission.codename for permission in role.permissions.all()}
    return [str(label) for name, label in PERMISSION_LABELS.items() if name in held]


def role_table(found: QuerySet[Group]) -> Iterator[tuple[object, ...]]:
    yield (_("Role"), _("Name"), _("It may"), _("Users"))
    for role in found:
        label = ROLE_LABELS.get(role.name, role.name)
        yield (label, role.name, ", ".join(sorted(each.codename for each in role.permissions.all())), role.members)  # type: ignore[attr-defined]  # annotated


@require_http_methods(["GET", "POST"])
@require(Permission.USER_MANAGE)
def role_add(request: HttpRequest) -> HttpResponse:
    return _save_role(request, Group())


@require_http_methods(["GET", "POST"])
@require(Permission.USER_MANAGE)
def role_edit(request: HttpRequest, pk: int) -> HttpResponse:
    role = get_object_or_404(Group, pk=pk)
    try:
        refuse_role(signed_in(request), role)
    except (Conflict, NotAllowed) as refusal:
        shown = {"rule_of": role.pk, "needs_factor": needs_factor(role)} if isinstance(refusal, Conflict) else {}
        context = {"name": role.name, "refusal": refusal.detail, **shown}
        return render(request, "accounts/role.html", context, status=200 if shown and request.method == "GET" else 403)
    return _save_role(request, role)


def needs_factor(role: Group) -> bool:
    return RoleRule.objects.filter(role=role, needs_factor=True).exists()


def _save_role(request: HttpRequest, role: Group) -> HttpResponse:
    name = role.name
    form = RoleForm(request.POST or None, instance=role, manager=signed_in(request))
    meantime = Meantime(request, form)
    if request.method == "POST" and form.is_valid() and meantime.is_free():
        try:
            with changing_role(role, request):
                form.save()
        except (Conflict, NotAllowed) as refusal:
            form.add_error(None, str(refusal.detail))
        except IntegrityError:
            form.add_error("name", _("There is a role of this name."))
        else:
            messages.success(request, _("The role %(name)s is saved.") % {"name": role.name})
            return redirect("roles")
    context = {"form": form, "meantime": meantime, "name": name, "pk": role.pk if name else None}
    if name:
        context |= {"rule_of": role.pk, "needs_factor": needs_factor(role)}
    return render(request, "accounts/role.html", context, status=400 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@require(Permission.USER_MANAGE)
def role_delete(request: HttpRequest, pk: int) -> HttpResponse:
    role = get_object_or_404(Group.objects.annotate(members=Count("user")), pk=pk)
    if request.method == "POST":
        name = role.name
        if request.POST.get("name") != name:
            messages.error(request, _("Type the role's name to confirm."))
            return redirect("role_delete", pk=pk)
        try:
            delete_role(role, request)
        except (Conflict, NotAllowed) as refusal:
            messages.error(request, str(refusal.detail))
        else:
            messages.success(request, _("The role %(name)s is deleted.") % {"name": name})
        return redirect("roles")
    return render(request, "accounts/role_delete.html", {"role": role})
