from django.contrib import admin

from accounts.access import Permission
from accounts.operators import OperatorAdmin
from alerts.models import Channel, Delivery, Incident, MailTemplate, Rule


@admin.register(Rule)
class RuleAdmin(OperatorAdmin):
    seen_with = Permission.CONFIG_MANAGE
    list_display = ("name", "event", "enabled", "severity", "scope")
    list_filter = ("event", "enabled")
    search_fields = ("name",)


@admin.register(Channel)
class ChannelAdmin(OperatorAdmin):
    seen_with = Permission.CONFIG_MANAGE
    list_display = ("name", "kind", "enabled", "language")
    exclude = ("target_encrypted",)
    search_fields = ("name",)


@admin.register(Incident)
class IncidentAdmin(OperatorAdmin):
    list_display = ("name", "rule", "severity", "opened_at", "closed_at", "told_count")
    list_select_related = ("rule",)
    search_fields = ("name",)
    show_full_result_count = False


@admin.register(Delivery)
class DeliveryAdmin(OperatorAdmin):
    seen_with = Permission.CONFIG_MANAGE
    list_display = ("created_at", "channel", "rule", "kind", "status", "count", "sent_at")
    list_filter = ("status", "kind")
    list_select_related = ("channel", "rule")
    show_full_result_count = False


@admin.register(MailTemplate)
class MailTemplateAdmin(OperatorAdmin):
    seen_with = Permission.CONFIG_MANAGE
    list_display = ("language", "subject")
