from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import transaction
from rest_framework import serializers

from accounts.strict import StrictModelSerializer, StrictSerializer
from servers.forms import TagsField
from servers.models import Server, Tag


class TagsSerializerField(serializers.ListField):
    child = serializers.CharField(max_length=40)

    def to_representation(self, value: Any) -> list[str]:
        return [tag.name for tag in value.all()]

    def to_internal_value(self, data: Any) -> list[str]:
        try:
            return TagsField(required=False).clean(super().to_internal_value(data))  # type: ignore[no-any-return]
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.messages) from error


class ServerSerializer(StrictModelSerializer[Server]):
    tags = TagsSerializerField(required=False)
    key_command = serializers.CharField(read_only=True, help_text="Run it on the server as the SSH user: lets us in.")
    key_made_at = serializers.DateTimeField(read_only=True, help_text="Of our key pair; `renew_key` makes another one.")
    sudoers_line = serializers.CharField(read_only=True, help_text="For users that are not root.")
    fingerprint = serializers.CharField(read_only=True, help_text='Of the confirmed host key; "" before that.')
    fingerprint_seen = serializers.CharField(read_only=True, help_text="Of the host key that it showed last.")

    class Meta:
        model = Server
        fields = [
            "id", "name", "address", "port", "username", "use_sudo", "enabled", "tags", "public_key", "key_made_at",
            "key_command", "sudoers_line", "fingerprint", "fingerprint_seen", "system", "borg_path", "borg_version",
            "tested_at", "test_ok", "seen_at", "created_at",
        ]  # fmt: skip
        read_only_fields = [
            "public_key", "system", "borg_path", "borg_version", "tested_at", "test_ok", "seen_at", "created_at",
        ]  # fmt: skip

    @transaction.atomic
    def create(self, validated_data: dict[str, Any]) -> Server:
        tags = validated_data.pop("tags", [])
        server = super().create(validated_data)
        set_tags(server, tags)
        return server

    @transaction.atomic
    def update(self, server: Server, validated_data: dict[str, Any]) -> Server:
        tags = validated_data.pop("tags", None)
        if {"address", "port"} & {key for key, value in validated_data.items() if getattr(server, key) != value}:
            server.host_key_seen = ""
        server = super().update(server, validated_data)
        if tags is not None:
            set_tags(server, tags)
        return server


def set_tags(server: Server, names: list[str]) -> None:
    server.tags.set([Tag.objects.get_or_create(name=name)[0] for name in names])


class HostKeySerializer(StrictSerializer):
    fingerprint = serializers.CharField(max_length=100, help_text="Exactly as `fingerprint_seen` shows it.")
