from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework import serializers

from accounts.access import PERMISSION_LABELS, ROLE_LABELS, permissions_of
from accounts.forms import NAME_TAKEN
from accounts.models import ApiToken, AuditEntry, User
from accounts.people import beyond
from accounts.strict import StrictModelSerializer, StrictSerializer


class UserSerializer(serializers.ModelSerializer[User]):
    roles = serializers.ListField(child=serializers.CharField(), read_only=True)
    permissions = serializers.SerializerMethodField()
    email = serializers.CharField(read_only=True, help_text='"": none.')

    class Meta:
        model = User
        fields = ["id", "username", "email", "first_name", "last_name", "language", "time_zone", "roles", "permissions"]
        read_only_fields = fields

    def get_permissions(self, user: User) -> list[str]:
        return permissions_of(user)


class LoginSerializer(StrictSerializer):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=4096, trim_whitespace=False, style={"input_type": "password"})
    code = serializers.CharField(
        required=False, max_length=64, help_text="Of the second factor, for who has one: the app's, or a recovery code."
    )


class RefreshSerializer(StrictSerializer):
    refresh_token = serializers.CharField(max_length=16_384)


class PairSerializer(serializers.Serializer[None]):
    access_token = serializers.CharField(read_only=True)
    refresh_token = serializers.CharField(read_only=True)
    token_type = serializers.CharField(read_only=True, default="Bearer")
    expires_in = serializers.IntegerField(read_only=True, help_text="Seconds that the access token lives.")
    user = UserSerializer(read_only=True)


class RoleSerializer(serializers.ModelSerializer[Group]):
    label = serializers.SerializerMethodField()  # type: ignore[assignment]  # DRF takes it off the class
    permissions = serializers.SerializerMethodField()

    class Meta:
        model = Group
        fields = ["name", "label", "permissions"]

    def get_label(self, role: Group) -> str:
        return str(ROLE_LABELS.get(role.name, role.name))

    def get_permissions(self, role: Group) -> list[str]:
        return sorted(permission.codename for permission in role.permissions.all())


class PasswordField(serializers.CharField):
    def __init__(self, **kwargs: Any) -> None:
        shown = {"input_type": "password"}
        super().__init__(write_only=True, max_length=4096, trim_whitespace=False, style=shown, **kwargs)


class AccountSerializer(StrictModelSerializer[User]):
    """A user as who manages users sees them."""

    roles = serializers.ListField(child=serializers.CharField(max_length=150), help_text="Names, as in /api/roles.")
    password = PasswordField(required=False)
    last_login_at = serializers.DateTimeField(source="last_login", read_only=True, allow_null=True)
    created_at = serializers.DateTimeField(source="date_joined", read_only=True)

    class Meta:
        model = User
        fields = [
            "id", "username", "password", "email", "first_name", "last_name", "language", "time_zone", "theme",
            "is_active", "roles", "last_login_at", "created_at",
        ]  # fmt: skip
        # Its own "unique" would compare letter by letter; the forms do not.
        extra_kwargs: dict[str, dict[str, Any]] = {"username": {"validators": [User.username_validator]}}

    def validate_username(self, name: str) -> str:
        name = User.normalize_username(name)
        others = User.objects.exclude(pk=self.instance.pk) if self.instance else User.objects.all()
        if others.filter(username__iexact=name).exists():
            raise serializers.ValidationError(NAME_TAKEN)
        return name

    def validate_roles(self, names: list[str]) -> list[Group]:
        roles = list(Group.objects.filter(name__in=names))
        if unknown := set(names) - {role.name for role in roles}:
            raise serializers.ValidationError(
                [_("There is no role “%(name)s”.") % {"name": n} for n in sorted(unknown)]
            )
        held = set(self.instance.groups.all()) if self.instance else set()
        if more := beyond(self.context["request"].user, [role for role in roles if role not in held]):
            raise serializers.ValidationError(
                _("You may not do this yourself: %(names)s.") % {"names": ", ".join(more)}
            )
        return roles

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "password" in attrs:
            described = {
                name: attrs.get(name, getattr(self.instance, name, ""))
                for name in ("username", "first_name", "last_name", "email")
            }
            try:
                validate_password(attrs["password"], User(**described))
            except DjangoValidationError as error:
                raise serializers.ValidationError({"password": error.messages}) from error
        return attrs

    @transaction.atomic
    def create(self, validated_data: dict[str, Any]) -> User:
        roles, password = validated_data.pop("roles"), validated_data.pop("password")
        user: User = User.objects.create_user(password=password, **validated_data)
        user.groups.set(roles)
        return user

    @transaction.atomic
    def update(self, user: User, validated_data: dict[str, Any]) -> User:
        roles, password = validated_data.pop("roles", None), validated_data.pop("password", None)
        if password is not None:
            user.set_password(password)
        user = super().update(user, validated_data)
        if roles is not None:
            user.groups.set(roles)
        return user


class NewAccountSerializer(AccountSerializer):
    password = PasswordField()


class ApiTokenSerializer(serializers.ModelSerializer[ApiToken]):
    username = serializers.CharField(source="user.username", read_only=True)
    permissions = serializers.ListField(
        child=serializers.CharField(), read_only=True, help_text="Of these it may do what its owner may do now."
    )

    class Meta:
        model = ApiToken
        fields = [
            "id", "name", "prefix", "user", "username", "permissions", "created_at", "expires_at", "last_used_at",
        ]  # fmt: skip
        read_only_fields = fields


class NewApiTokenSerializer(StrictSerializer):
    name = serializers.CharField(max_length=100)
    permissions = serializers.MultipleChoiceField(
        choices=[(str(name), label) for name, label in PERMISSION_LABELS.items()], allow_empty=False
    )
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="Without it, in a year; null: never."
    )

    def validate_permissions(self, names: list[str]) -> list[str]:
        if more := sorted(set(names) - set(permissions_of(self.context["request"].user))):
            raise serializers.ValidationError(
                _("You may not do this yourself: %(names)s.") % {"names": ", ".join(more)}
            )
        return sorted(set(names))

    def validate_expires_at(self, at: datetime | None) -> datetime | None:
        if at and at <= timezone.now():
            raise serializers.ValidationError(_("This time has passed."))
        return at


class MadeApiTokenSerializer(ApiTokenSerializer):
    token = serializers.CharField(read_only=True, help_text="Shown this once.")

    class Meta(ApiTokenSerializer.Meta):
        fields = [*ApiTokenSerializer.Meta.fields, "token"]
        read_only_fields = fields


class AuditSerializer(serializers.ModelSerializer[AuditEntry]):
    user = serializers.IntegerField(
        source="user_id", read_only=True, allow_null=True, help_text="Who may be gone by now; null: nobody signed in."
    )
    detail = serializers.DictField(read_only=True, help_text="Of a change `before` and `after`. Without secrets.")

    class Meta:
        model = AuditEntry
        fields = ["number", "at", "user", "username", "address", "action", "target", "detail", "digest"]
        read_only_fields = fields
        extra_kwargs = {
            "number": {"help_text": "From 1, without gaps."},
            "username": {"help_text": "As it was then."},
            "digest": {"help_text": "Of this entry and of the one before it: `manage.py verify_audit`."},
        }
