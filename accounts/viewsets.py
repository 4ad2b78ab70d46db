from typing import ClassVar

from django.contrib.auth import authenticate
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import audit, tokens
from accounts.access import Permission, signed_in
from accounts.models import User
from accounts.serializers import LoginSerializer, PairSerializer, RefreshSerializer, UserSerializer
from accounts.throttle import seconds_to_wait


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
        audit.record("login.api", request=request._request, user=user)
        return Response(pair_as_json(tokens.log_in(user, request._request)))


class Refresh(PublicView):
    @extend_schema(request=RefreshSerializer, responses=PairSerializer, auth=[], summary="Renew the tokens")
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for a new pair; the old one is dead."""
        asked = RefreshSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            pair = tokens.rotate(asked.validated_data["refresh_token"], request._request)
        except tokens.TokenRefused as error:
            raise AuthenticationFailed(str(error)) from error
        return Response(pair_as_json(pair))


class Logout(APIView):
    permissions: ClassVar[dict[str, Permission | None]] = {"post": None}

    @extend_schema(request=RefreshSerializer, responses={204: None}, summary="Log out")
    def post(self, request: Request) -> Response:
        """End the login that the refresh token belongs to, with all its tokens."""
        asked = RefreshSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            tokens.log_out(asked.validated_data["refresh_token"], signed_in(request))
        except tokens.TokenRefused as error:
            raise AuthenticationFailed(str(error)) from error
        return Response(status=204)


class Me(APIView):
    permissions: ClassVar[dict[str, Permission | None]] = {"get": None}

    @extend_schema(responses=UserSerializer, summary="Who am I")
    def get(self, request: Request) -> Response:
        """The signed-in user with roles and permissions."""
        return Response(UserSerializer(signed_in(request)).data)
