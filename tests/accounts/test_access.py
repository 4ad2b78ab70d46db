"""The one place that decides: can, require, ApiPermission."""

from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import AnonymousUser, Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from accounts.access import ROLES, Permission, can, permissions_of, require, signed_in
from accounts.models import User
from tests.conftest import PASSWORD, make_user

# --- can --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["admin", "operator", "viewer"])
def test_a_role_may_do_what_the_contract_says_and_nothing_else(role: str, request: pytest.FixtureRequest) -> None:
    user = request.getfixturevalue(role)
    assert {permission for permission in Permission if can(user, permission)} == ROLES[f"ROLE_{role.upper()}"]


def test_the_roles_are_those_of_the_contract() -> None:
    assert ROLES["ROLE_ADMIN"] == set(Permission)
    assert sorted(ROLES["ROLE_OPERATOR"]) == ["backup.create", "backup.view", "logs.view", "server.view"]
    assert sorted(ROLES["ROLE_VIEWER"]) == ["backup.view", "logs.view", "server.view"]


def test_nobody_may_do_nothing() -> None:
    assert not any(can(AnonymousUser(), permission) for permission in Permission)


def test_a_superuser_may_do_everything(db: None) -> None:
    root = User.objects.create_superuser("root", password=PASSWORD)
    assert permissions_of(root) == sorted(Permission)
    assert root.roles == ["ROLE_ADMIN"]


def test_even_a_superuser_who_is_switched_off_may_do_nothing(db: None) -> None:
    root = User.objects.create_superuser("root", password=PASSWORD, is_active=False)
    assert permissions_of(root) == []


def test_a_group_of_ones_own_gives_what_it_holds(viewer: User) -> None:
    group = Group.objects.create(name="restorers")
    group.permissions.add(DjangoPermission.objects.get(codename="backup.restore"))
    viewer.groups.add(group)
    viewer = User.objects.get(pk=viewer.pk)
    assert can(viewer, Permission.BACKUP_RESTORE)
    assert viewer.roles == ["ROLE_VIEWER", "restorers"]


def test_a_permission_can_be_given_to_one_person(viewer: User) -> None:
    viewer.user_permissions.add(DjangoPermission.objects.get(codename="server.manage"))
    assert can(User.objects.get(pk=viewer.pk), Permission.SERVER_MANAGE)


def test_permissions_of_another_app_with_our_name_do_not_count(viewer: User) -> None:
    content_type = DjangoPermission.objects.exclude(content_type__app_label="accounts")[0].content_type
    viewer.user_permissions.add(
        DjangoPermission.objects.create(codename="server.manage", name="x", content_type=content_type)
    )
    assert not can(User.objects.get(pk=viewer.pk), Permission.SERVER_MANAGE)


# --- require ------------------------------------------------------------------------------------


@require(Permission.BACKUP_CREATE)
def page(request: HttpRequest, *, pk: int = 0) -> HttpResponse:
    return HttpResponse(f"{signed_in(request).username} {pk}")


def ask(user: User | AnonymousUser, path: str = "/page?a=1&b=2", **headers: str) -> HttpResponseBase:
    request = RequestFactory().get(path, headers=headers)
    request.user = user
    return page(request, pk=7)


def test_whoever_may_sees_the_page(operator: User) -> None:
    assert ask(operator).getvalue() == b"otto 7"


def test_whoever_may_not_is_refused(viewer: User) -> None:
    with pytest.raises(PermissionDenied):
        ask(viewer)


def test_nobody_goes_to_the_login_and_comes_back() -> None:
    answer = ask(AnonymousUser())
    assert answer.status_code == 302
    assert answer["Location"] == "/login?next=%2Fpage%3Fa%3D1%26b%3D2"


def test_a_fragment_makes_the_whole_page_go_to_the_login() -> None:
    answer = ask(AnonymousUser(), **{"HX-Request": "true"})
    assert (answer.status_code, answer["HX-Refresh"]) == (401, "true")


def test_a_fragment_that_is_forbidden_is_403(as_viewer: Client) -> None:
    answer = as_viewer.get("/servers/add", headers={"HX-Request": "true"})
    assert answer.status_code == 403


def test_the_page_of_a_refusal_says_so(as_viewer: Client) -> None:
    answer = as_viewer.get("/servers/add")
    assert answer.status_code == 403
    assert "You may not do this." in answer.content.decode()


# --- ApiPermission ------------------------------------------------------------------------------


class Things(ViewSet):
    permissions: ClassVar[dict[str, Permission | None]] = {"list": None, "create": Permission.SERVER_MANAGE}

    def list(self, request: Request) -> Response:
        return Response("list")

    def create(self, request: Request) -> Response:
        return Response("create")

    def destroy(self, request: Request) -> Response:
        return Response("destroy")


class Forgotten(APIView):
    def get(self, request: Request) -> Response:
        return Response("get")


things = Things.as_view({"get": "list", "post": "create", "delete": "destroy"})


def call(view: Any, method: str, user: User | None) -> int:
    request = APIRequestFactory().generic(method, "/")
    if user:
        force_authenticate(request, user)
    return int(view(request).status_code)


def test_none_means_whoever_is_signed_in(viewer: User) -> None:
    assert call(things, "GET", viewer) == 200
    assert call(things, "GET", None) == 401


def test_a_permission_is_asked_for(viewer: User, admin: User) -> None:
    assert call(things, "POST", viewer) == 403
    assert call(things, "POST", admin) == 200


def test_an_action_that_names_no_permission_refuses_everybody(admin: User) -> None:
    assert call(things, "DELETE", admin) == 403


def test_a_view_that_names_no_permissions_refuses_everybody(admin: User) -> None:
    assert call(Forgotten.as_view(), "GET", admin) == 403
    assert call(Forgotten.as_view(), "HEAD", admin) == 403


def test_a_method_that_does_not_exist_is_405(viewer: User) -> None:
    assert call(things, "PUT", viewer) == 405
    assert call(Forgotten.as_view(), "POST", viewer) == 405


@pytest.mark.parametrize("method", ["DISPATCH", "AS_VIEW", "PERMISSIONS", "BREW"])
def test_a_made_up_method_reaches_nothing(admin: User, method: str) -> None:
    assert call(things, method, admin) in (403, 405)


def test_head_needs_what_get_needs(viewer: User) -> None:
    assert call(things, "HEAD", viewer) == 200
    assert call(things, "HEAD", None) == 401


def test_options_is_405_for_whoever_is_signed_in(viewer: User) -> None:
    assert call(things, "OPTIONS", viewer) == 405
    assert call(things, "OPTIONS", None) == 401


def test_the_session_of_the_pages_opens_the_api_with_a_csrf_token_only(viewer: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(viewer)
    answer = client.post("/api/auth/logout", "{}", content_type="application/json")
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "permission_denied"


def test_all_permissions_of_a_person_are_one_query(db: None) -> None:
    """Red with Django's own backend, which asks for those of a person and of their roles one after the other."""
    user = make_user("kim", "ROLE_VIEWER")
    user.user_permissions.add(DjangoPermission.objects.get(codename=Permission.BACKUP_CREATE.value))
    user = User.objects.get(pk=user.pk)
    with CaptureQueriesContext(connection) as asked:
        assert permissions_of(user) == sorted({*ROLES["ROLE_VIEWER"], Permission.BACKUP_CREATE})
    assert len(asked) == 1
    user.is_active = False
    assert permissions_of(user) == []
