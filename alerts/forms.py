"""Forms of rules, channels and templates; the fields that a kind adds are the kind's."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.fields import TimeZoneField
from alerts.channels.base import ChannelKind, of_plans
from alerts.events import EventKind
from alerts.messages import sample
from alerts.models import Channel, MailTemplate, Rule
from alerts.pinging import set_pings
from alerts.sandbox import BadTemplate, render
from backups.models import Plan
from servers.models import Server, Tag

MOST_NAMES = 1000


class NamesField(forms.CharField):
    """Things by their names, one per line: among ten thousand nobody looks through a list."""

    widget = forms.Textarea(attrs={"rows": 3})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, "max_length": 100_000, **kwargs})

    def by_name(self, names: set[str]) -> dict[str, Any]:
        raise NotImplementedError

    def clean(self, value: Any) -> Any:
        names = {line.strip() for line in (super().clean(value) or "").splitlines() if line.strip()}
        if len(names) > MOST_NAMES:
            raise ValidationError(_("These are more than %(most)d names.") % {"most": MOST_NAMES})
        found = self.by_name(names)
        if unknown := sorted(names - found.keys()):
            raise ValidationError(_("Not known: %(names)s.") % {"names": ", ".join(unknown[:10])})
        return list(found.values())

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(sorted(value)) if isinstance(value, list) else value


class ServersField(NamesField):
    def by_name(self, names: set[str]) -> dict[str, Any]:
        return {server.name: server for server in Server.objects.filter(name__in=names)}


class PlansField(NamesField):
    def by_name(self, names: set[str]) -> dict[str, Any]:
        servers = {name.partition("/")[0] for name in names}
        plans = Plan.objects.filter(server__name__in=servers).select_related("server")
        return {plan.full_name: plan for plan in plans if plan.full_name in names}


class RuleForm(forms.ModelForm[Rule]):
    servers = ServersField(label=gettext_lazy("Servers"), help_text=gettext_lazy("Their names, one per line."))
    plans = PlansField(label=gettext_lazy("Plans"), help_text=gettext_lazy("As server/plan, one per line."))
    tags = forms.ModelMultipleChoiceField(Tag.objects.all(), label=gettext_lazy("Tags"), required=False)
    time_zone = TimeZoneField(
        label=gettext_lazy("Time zone"), help_text=gettext_lazy("In which the quiet hours are meant.")
    )

    class Meta:
        model = Rule
        fields = [
            "name", "enabled", "severity", "scope", "tags", "servers", "plans", "channels", "gather_minutes",
            "repeat_hours", "tell_recovery", "quiet", "time_zone",
        ]  # fmt: skip
        widgets: ClassVar = {
            "quiet": forms.Textarea(attrs={"rows": 2, "placeholder": "22:00-07:00"}),
            "channels": forms.CheckboxSelectMultiple,
        }
        help_texts: ClassVar = {
            "channels": gettext_lazy("Without one it stands on the page of alerts, and nobody is told.")
        }

    def __init__(self, *args: Any, kind: type[EventKind], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind = kind
        self.fields["channels"].queryset = Channel.objects.exclude(kind__in=of_plans())  # type: ignore[attr-defined]
        if not kind.has_scope:
            for name in ("scope", "tags", "servers", "plans"):
                del self.fields[name]
        elif self.instance.pk:
            self.initial["servers"] = list(self.instance.servers.values_list("name", flat=True))
            self.initial["plans"] = [plan.full_name for plan in self.instance.plans.select_related("server")]
        for name, field in kind.form().fields.items():
            self.fields[name] = field
            self.initial.setdefault(name, self.instance.parameters.get(name, field.initial))
        self.order_fields(["name", "enabled", "severity", *kind.form.base_fields])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        chosen = cleaned.get("scope", Rule.Scope.ALL)
        if chosen != Rule.Scope.ALL and chosen not in self.errors and not cleaned.get(chosen):
            self.add_error(chosen, _("Name at least one, or let the rule be about everything."))
        names = list(self.kind.form.base_fields)
        if not any(name in self.errors for name in names):
            parameters = self.kind.form({name: cleaned.get(name) for name in names})
            if not parameters.is_valid():
                for errors in parameters.errors.values():
                    self.add_error(names[0], list(errors))
            self.instance.parameters = {name: cleaned.get(name) for name in names}
        return cleaned


class ChannelForm(forms.ModelForm[Channel]):
    """Where a channel leads is entered anew, all of it, or stays: a secret goes to no other place than it was for."""

    class Meta:
        model = Channel
        fields = ["name", "enabled", "language", "report"]

    def __init__(self, *args: Any, kind: type[ChannelKind], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.target_form = kind.form
        self.fields["report"].widget.choices = [("", _("none")), *Channel.Report.choices]
        for name, field in kind.form().fields.items():
            field.widget.attrs["autocomplete"] = "off"
            if self.instance.pk:
                field.required = False
                field.help_text = _("Kept, and not shown. Empty: as it is.")
            self.fields[name] = field
        if kind.of_plans:
            del self.fields["report"]
            self.fields["plans"] = PlansField(
                label=_("Plans"), required=True, help_text=_("As server/plan, one per line.")
            )
            if self.instance.pk:
                self.initial["plans"] = [plan.full_name for plan in self.instance.plans.select_related("server")]

    def save(self, commit: bool = True) -> Channel:
        channel = super().save(commit)
        if "plans" in self.fields:
            set_pings(channel, self.cleaned_data["plans"])
        return channel

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        target = {name: cleaned.get(name) for name in self.target_form.base_fields}
        if any(target.values()) or not self.instance.pk:
            form = self.target_form(target)
            for name, errors in form.errors.items():
                if name not in self.errors:
                    self.add_error(name if name in self.fields else None, list(errors))
            if not self.errors:
                self.instance.set_target(form.cleaned_data)
        return cleaned

    @property
    def has_new_target(self) -> bool:
        return any(self.cleaned_data.get(name) for name in self.target_form.base_fields)


class TemplateForm(forms.ModelForm[MailTemplate]):
    class Meta:
        model = MailTemplate
        fields = ["subject", "text", "html"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in ("subject", "text", "html"):
            if name in cleaned:
                try:
                    render(cleaned[name], sample(self.instance.language), html=name == "html")
                except BadTemplate as error:
                    self.add_error(name, str(error))
        return cleaned
