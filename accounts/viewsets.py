from typing import Any, ClassVar

from django.contrib.auth import authenticate
from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.exceptions import AuthenticationFailed, Throttled, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from accounts import audit, factor, tokens
from accounts.access import Permission, can, signed_in
from accounts.errors import NotAllowed
from accounts.filters import ApiTokenFilter, AuditFilter, UserFilter
from accounts.models import ApiToken, ApiTokenQuerySet, AuditEntry, User
from accounts.paging import NewestFirst
from accounts.people import changing, dismiss
from accounts.serializers import (
    AccountSerializer,
    ApiTokenSerializer,
    AuditSerializer,
    LoginSerializer,
    MadeApiTokenSerializer,
    NewAccountSerializer,
    NewApiTokenSerializer,
    PairSerializer,
    RefreshSerializer,
    RoleSerializer,
    UserSerializer,
)
from accounts.throttle import REFUSED, seconds_before_refresh, seconds_to_wait


def pair_as_json(pair: tokens.Pair) -> dict[str, object]:
    return {
        "access_token": pair.access,
        "refresh_token": pair.refresh,
        "token_type": "Bearer",
        "expires_in": pair.expires_in,
        "user": UserSerializer(pair.user).data,
    }


class PublicView(APIView):
    """For whoever has no access token (yet)."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    answers_with_secrets = True

    def get_authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'  # without one DRF answers 403 where 401 is meant


class Login(PublicView):
    @extend_schema(request=LoginSerializer, responses=PairSerializer, auth=[], summary="Log in")
    def post(self, request: Request) -> Response:
        """Exchange a name and a password for an access and a refresh token."""
        asked = LoginSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        name, password = asked.validated_data["username"], asked.validated_data["password"]
        if wait := seconds_to_wait(name, request._request):
            raise Throttled(wait)
        user = authenticate(request._request, username=name, password=password)
        if not isinstance(user, User):
            raise AuthenticationFailed("The name or the password is wrong.")
        refuse_without_factor(user, asked.validated_data.get("code"), request)
        audit.record("login.api", request=request._request, user=user)
        return Response(pair_as_json(tokens.log_in(user, request._request)))


def refuse_without_factor(user: User, code: str | None, request: Request) -> None:
    """Raise unless `user` has shown a second factor, or needs none."""
    if not factor.is_set_up(user):
        if factor.is_required(user):
            raise NotAllowed(_("Your role asks for a second factor. Log in on the page to set it up."))
        return
    if code is None:
        raise ValidationError({"code": [_("This account has a second factor: send its code, or a recovery code.")]})
    try:
        factor.check(user, code, request._request)
    except DjangoValidationError as error:
        raise AuthenticationFailed(error.messages[0]) from error


class Refresh(PublicView):
    @extend_schema(request=RefreshSerializer, responses=PairSerializer, auth=[], summary="Renew the tokens")
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for a new pair; the old one is dead."""
        asked = RefreshSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        if wait := seconds_before_refresh(request._request):
            raise Throttled(wait)
        try:
            pair = tokens.rotate(asked.validated_data["refresh_token"], request._request)
        except tokens.TokenRefused as error:
            audit.record(REFUSED, request=request._request)
            raise AuthenticationFailed(str(error)) from error
        return Response(pair_as_json(pair))


class Logout(APIView):
    permissions: ClassVar[dict[str, Permission | None]] = {"post": None}
    answers_with_secrets = True  # it has none, but belongs to the two before it

    @extend_schema(request=RefreshSerializer, responses={204: None}, summary="Log out")
    def post(self, request: Request) -> Response:
        """End the login that the refresh token belongs to, with all its tokens."""
        asked = RefreshSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            tokens.log_out(asked.validated_data["refresh_token"], signed_in(request))
        except tokens.TokenRefused as error:
            raise AuthenticationFailed(str(error)) from error
        audit.record("logout.api", request=request)
        return Response(status=204)


class Me(APIView):
    permissions: ClassVar[dict[str, Permission | None]] = {"get": None}

    @extend_schema(responses=UserSerializer, summary="Who am I")
    def get(self, request: Request) -> Response:
        """The signed-in user with roles and permissions."""
        return Response(UserSerializer(signed_in(request)).data)


@extend_schema_view(
    list=extend_schema(
        summary="List API tokens",
        description="Your own; with `?user=` those of that user, which needs user.manage. Never their text.",
    ),
)
class ApiTokenViewSet(
    mixins.ListModelMixin, mixins.CreateModelMixin, mixins.DestroyModelMixin, GenericViewSet[ApiToken]
):
    serializer_class = ApiTokenSerializer
    lookup_value_converter = "int"
    filterset_class = ApiTokenFilter
    orderings = ("name", "-name", "created_at", "-created_at")
    permissions: ClassVar[dict[str, Permission | None]] = dict.fromkeys(("list", "create", "destroy"))
    answers_with_secrets = True

    def get_queryset(self) -> ApiTokenQuerySet:
        found, me = ApiToken.objects.select_related("user"), self.request.user
        own = self.action == "list" and "user" not in self.request.query_params
        return found.of(me) if own else found.for_user(me)

    @extend_schema(summary="Make an API token", request=NewApiTokenSerializer, responses={201: MadeApiTokenSerializer})
    @transaction.atomic
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """For yourself, with some of the permissions that you have. `token` is shown this once.

        An API token makes none, and an `Idempotency-Key` is not heeded: the answer is stored nowhere.
        """
        if isinstance(request.auth, ApiToken):
            raise NotAllowed(_("An API token makes no other. Log in to make one."))
        asked = NewApiTokenSerializer(data=request.data, context=self.get_serializer_context())
        asked.is_valid(raise_exception=True)
        values = {"expires_at": timezone.now() + ApiToken.LIFETIME, **asked.validated_data}
        token, text = tokens.make_api_token(signed_in(request), request, **values)
        return Response({**ApiTokenSerializer(token).data, "token": text}, status=201)

    @extend_schema(summary="Revoke an API token")
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """It opens nothing from now on. An API token revokes itself; others only if it may manage users."""
        token = self.get_object()
        by_another = isinstance(request.auth, ApiToken) and request.auth != token
        if by_another and not can(request.user, Permission.USER_MANAGE):
            raise NotAllowed(_("An API token revokes only itself."))
        tokens.revoke_api_token(token, request)
        return Response(status=204)


@extend_schema_view(
    list=extend_schema(summary="List users"),
    retrieve=extend_schema(summary="Show a user"),
    create=extend_schema(summary="Add a user"),
    update=extend_schema(summary="Replace a user's settings", description="Without `password` it stays as it is."),
    partial_update=extend_schema(
        summary="Change a user's settings",
        description="A new password, or `is_active: false`, ends all sessions and logins. "
        "409 if no administrator were left, or for switching off yourself.",
    ),
)
class UserViewSet(ModelViewSet[User]):
    serializer_class = AccountSerializer
    lookup_value_converter = "int"
    filterset_class = UserFilter
    orderings = ("username", "-username")
    permissions: ClassVar[dict[str, Permission | None]] = dict.fromkeys(
        ("list", "retrieve", "create", "update", "partial_update", "destroy"), Permission.USER_MANAGE
    )

    def get_queryset(self) -> QuerySet[User]:
        return User.objects.prefetch_related("groups").order_by("username")

    def get_serializer_class(self) -> type[BaseSerializer[User]]:
        return NewAccountSerializer if self.action == "create" else AccountSerializer

    @transaction.atomic
    def perform_create(self, serializer: BaseSerializer[User]) -> None:
        user = serializer.save()
        audit.record_change("user.added", user, {}, request=self.request)

    def perform_update(self, serializer: BaseSerializer[User]) -> None:
        assert serializer.instance
        with changing(serializer.instance, self.request):
            serializer.save()

    @extend_schema(summary="Delete or switch off a user", responses={200: AccountSerializer, 204: None})
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """204 if the user is gone; 200 if switched off instead, as everybody is who has ever done something.

        Jobs and the audit trail go on to name them. 409 for yourself and for the last administrator.
        """
        user = self.get_object()
        is_gone = dismiss(user, request)
        return Response(status=204) if is_gone else Response(self.get_serializer(user).data)


@extend_schema_view(list=extend_schema(summary="List roles", description="What each of them may do."))
class RoleViewSet(mixins.ListModelMixin, GenericViewSet[Group]):
    serializer_class = RoleSerializer
    orderings = ("name", "-name")
    permissions: ClassVar[dict[str, Permission | None]] = {"list": Permission.USER_MANAGE}

    def get_queryset(self) -> QuerySet[Group]:
        ours = DjangoPermission.objects.filter(codename__in=list(Permission))
        return Group.objects.prefetch_related(Prefetch("permissions", ours)).order_by("name")


@extend_schema_view(
    list=extend_schema(
        summary="List what people did, newest first", description="The audit trail: who, when, from where, on what."
    )
)
class AuditViewSet(mixins.ListModelMixin, GenericViewSet[AuditEntry]):
    serializer_class = AuditSerializer
    filterset_class = AuditFilter
    pagination_class = NewestFirst
    orderings = ("-at",)
    permissions: ClassVar[dict[str, Permission | None]] = {"list": Permission.USER_MANAGE}

    def get_queryset(self) -> QuerySet[AuditEntry]:
        return AuditEntry.objects.order_by("-at", "-id")
