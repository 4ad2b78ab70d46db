from rest_framework import serializers

from accounts.access import permissions_of
from accounts.models import User


class UserSerializer(serializers.ModelSerializer[User]):
    roles = serializers.ListField(child=serializers.CharField(), read_only=True)
    permissions = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = ["id", "username", "email", "first_name", "last_name", "language", "time_zone", "roles", "permissions"]
        read_only_fields = fields

    def get_permissions(self, user: User) -> list[str]:
        return permissions_of(user)


class LoginSerializer(serializers.Serializer[None]):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=4096, trim_whitespace=False, style={"input_type": "password"})


class RefreshSerializer(serializers.Serializer[None]):
    refresh_token = serializers.CharField(max_length=16_384)


class PairSerializer(serializers.Serializer[None]):
    access_token = serializers.CharField(read_only=True)
    refresh_token = serializers.CharField(read_only=True)
    token_type = serializers.CharField(read_only=True, default="Bearer")
    expires_in = serializers.IntegerField(read_only=True, help_text="Seconds that the access token lives.")
    user = UserSerializer(read_only=True)
