from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import validate_time_zone
from accounts.strict import StrictModelSerializer
from alerts.channels.base import ChannelKind, of_plans
from alerts.events import EventKind, sentence_of
from alerts.models import Channel, Delivery, Incident, Rule
from alerts.pinging import set_pings
from backups.models import Plan
from jobs.starting import validated
from servers.models import Server, Tag

STAYS = "This stays as it is. Add another one."


class AlertSerializer(serializers.ModelSerializer[Incident]):
    sentence = serializers.SerializerMethodField(help_text="What is wrong, in words.")

    class Meta:
        model = Incident
        fields = [
            "id", "rule", "event", "severity", "subject", "name", "sentence", "server", "plan", "opened_at",
            "closed_at", "told_at", "told_count",
        ]  # fmt: skip
        read_only_fields = fields

    def get_sentence(self, incident: Incident) -> str:
        return sentence_of(incident.event, incident.facts)


class RuleSerializer(StrictModelSerializer[Rule]):
    event = serializers.CharField(max_length=40, help_text="The kind of event, as `backup_failed`; it stays.")
    parameters = serializers.DictField(required=False, help_text="Those of the kind of event, as `hours`.")
    tags = serializers.PrimaryKeyRelatedField(queryset=Tag.objects.all(), many=True, required=False)
    servers = serializers.PrimaryKeyRelatedField(queryset=Server.objects.all(), many=True, required=False)
    plans = serializers.PrimaryKeyRelatedField(queryset=Plan.objects.all(), many=True, required=False)
    channels = serializers.PrimaryKeyRelatedField(queryset=Channel.objects.all(), many=True, required=False)
    time_zone = serializers.CharField(required=False, max_length=64, validators=[validate_time_zone])

    class Meta:
        model = Rule
        fields = [
            "id", "name", "event", "parameters", "enabled", "severity", "scope", "tags", "servers", "plans", "channels",
            "gather_minutes", "repeat_hours", "tell_recovery", "quiet", "time_zone", "created_at",
        ]  # fmt: skip
        read_only_fields = ["created_at"]

    def validate_event(self, event: str) -> str:
        if self.instance and event != self.instance.event:
            raise serializers.ValidationError(STAYS)
        if event not in EventKind.registry:
            raise serializers.ValidationError("There is no such kind of event.")
        return event

    def validate_channels(self, channels: list[Channel]) -> list[Channel]:
        """As the form, which offers no others: to a watchman any message is a sign of life."""
        if pings := [channel.name for channel in channels if channel.kind in of_plans()]:
            raise serializers.ValidationError(f"They are told of each run of their plans, and of no rule: {pings}.")
        return channels

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        kind = EventKind.registry.get(attrs.get("event") or (self.instance.event if self.instance else ""))
        if kind and ("parameters" in attrs or not self.instance):
            given = attrs.get("parameters") or {}
            begun = {name: field.initial for name, field in kind.form.base_fields.items()}
            try:
                attrs["parameters"] = validated(kind.form, {**begun, **given})
            except serializers.ValidationError as error:
                raise serializers.ValidationError({"parameters": error.detail}) from error
        scope = attrs.get("scope") or (self.instance.scope if self.instance else Rule.Scope.ALL)
        if scope != Rule.Scope.ALL and scope in Rule.Scope.values:
            named = attrs[scope] if scope in attrs else self.instance and getattr(self.instance, scope).exists()
            if not named:
                raise serializers.ValidationError({scope: ["Name at least one, or let the rule be about everything."]})
        return attrs


class ChannelSerializer(StrictModelSerializer[Channel]):
    kind = serializers.CharField(max_length=20, help_text="`mail` or `webhook`, for example; it stays.")
    target = serializers.DictField(
        write_only=True, required=False,
        help_text="Where it leads, all of it: `to` of mail, `url` of others, `secret` of a webhook. Never shown again.",
    )  # fmt: skip
    plans = serializers.PrimaryKeyRelatedField(
        queryset=Plan.objects.all(), many=True, required=False,
        help_text="Of a channel of the kind `ping`: those whose runs are told. Others have none: they stand in rules.",
    )  # fmt: skip

    class Meta:
        model = Channel
        fields = ["id", "name", "kind", "enabled", "language", "report", "plans", "target", "created_at"]
        read_only_fields = ["created_at"]

    def validate_kind(self, kind: str) -> str:
        if self.instance and kind != self.instance.kind:
            raise serializers.ValidationError(STAYS)
        if kind not in ChannelKind.registry:
            raise serializers.ValidationError("There is no such kind of channel.")
        return kind

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        kind = ChannelKind.registry.get(attrs.get("kind") or (self.instance.kind if self.instance else ""))
        if kind and ("target" in attrs or not self.instance):
            try:
                attrs["target"] = validated(kind.form, attrs.get("target") or {})
            except serializers.ValidationError as error:
                raise serializers.ValidationError({"target": error.detail}) from error
        if kind and kind.of_plans:
            if not attrs.get("plans", self.instance and self.instance.plans.exists()):
                raise serializers.ValidationError({"plans": ["Name at least one."]})
            if attrs.get("report"):
                raise serializers.ValidationError({"report": ["A channel of this kind takes no reports."]})
        elif attrs.get("plans"):
            raise serializers.ValidationError({"plans": ["Rules say of what this kind of channel is told."]})
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Channel:
        channel = Channel()
        return self.update(channel, validated_data)

    def update(self, instance: Channel, validated_data: dict[str, Any]) -> Channel:
        target, plans = validated_data.pop("target", None), validated_data.pop("plans", None)
        for name, value in validated_data.items():
            setattr(instance, name, value)
        if target is not None:
            instance.set_target(target)
        instance.save()
        if plans is not None:
            set_pings(instance, plans)
        return instance


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    names = serializers.SerializerMethodField(help_text="Of what it is about, the first fifty.")

    class Meta:
        model = Delivery
        fields = ["id", "channel", "rule", "kind", "status", "count", "names", "job", "error", "created_at", "sent_at"]
        read_only_fields = fields

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_names(self, delivery: Delivery) -> list[str]:
        return [str(item.get("name", "")) for item in delivery.message.get("items", [])]
