"""The live settings as a form: the page's, and what PUT /api/settings takes."""

from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

from django import forms
from django.conf import settings
from django.forms import BoundField
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.fields import TimeZoneField
from backups.models import RetentionPolicy
from jobs.config import config, defaults, fields, is_secret
from jobs.fields import WholeNumbersField
from phpborg.templatetags.ui import count

LABELS = {
    "site_url": gettext_lazy("Site address"),
    "time_zone": gettext_lazy("Time zone"),
    "plan_schedule": gettext_lazy("Schedule"),
    "plan_time_zone": gettext_lazy("Time zone of the schedule"),
    "plan_retention": gettext_lazy("Retention policy"),
    "plan_compression": gettext_lazy("Compression"),
    "plan_proof_days": gettext_lazy("Test a restore every"),
    "plan_proof_files": gettext_lazy("Files of a restore test"),
    "job_keep_days": gettext_lazy("Keep ended jobs for"),
    "log_keep_days": gettext_lazy("Keep their logs for"),
    "job_log_lines": gettext_lazy("Longest log of a job"),
    "job_retry_seconds": gettext_lazy("Pauses before another attempt"),
    "check_max_seconds": gettext_lazy("Longest check of all data"),
    "compact_after_days": gettext_lazy("Give room back after"),
    "pool_low_percent": gettext_lazy("Storage pools nearly full below"),
    "pool_low_gb": gettext_lazy("Storage pools nearly full below, in gigabytes"),
    "smtp_host": gettext_lazy("Mail server"),
    "smtp_port": gettext_lazy("Port"),
    "smtp_tls": gettext_lazy("Encryption"),
    "smtp_user": gettext_lazy("User"),
    "smtp_password": gettext_lazy("Password"),
    "mail_sender": gettext_lazy("Sender"),
    "smtp_timeout_seconds": gettext_lazy("Patience"),
}
UNITS: Mapping[str, str | Promise] = {
    "days": gettext_lazy("days"), "seconds": gettext_lazy("seconds"), "pauses": gettext_lazy("seconds"),
    "lines": gettext_lazy("lines"), "percent": "%", "gigabytes": gettext_lazy("GB"), "proof_days": gettext_lazy("days"),
    "proof_files": gettext_lazy("files"), "patience": gettext_lazy("seconds"),
}  # fmt: skip


class Setting(NamedTuple):
    bound: BoundField
    is_set: bool  # by somebody: it follows the environment no more
    is_unset: bool  # as the form is filled in
    is_secret: bool


class Section(NamedTuple):
    title: str | Promise
    settings: list[Setting]


class SettingsForm(forms.Form):
    """All of them. What is `unset` goes back to what the environment has, whatever else was sent for it."""

    def __init__(
        self, data: Any = None, *, unset: Collection[str] = (), only: Collection[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(data, **kwargs)
        self.fields |= {name: deepcopy(fields()[name]) for name in only or fields()}
        self.unset = frozenset(unset) & self.fields.keys()
        for name, field in self.fields.items():
            field.label = LABELS[name]
            field.help_text = " ".join(filter(None, (str(field.help_text), bounds(name), default_words(name))))
            if isinstance(field, TimeZoneField) and not field.required:
                field.widget.empty = _("that of whoever makes the plan")
        if policy := self.fields.get("plan_retention"):
            self._policies = list(RetentionPolicy.objects.order_by("name").values_list("name", flat=True))
            names = ((name, name) for name in self._policies)
            policy.widget = forms.Select(choices=[("", _("the first by name")), *names])

    def clean_plan_retention(self) -> str:
        name: str = self.cleaned_data["plan_retention"]
        if name and name not in self._policies:
            raise forms.ValidationError(_("There is no retention policy “%(name)s”."), params={"name": name})
        return name

    def clean(self) -> dict[str, Any]:
        for name in self.unset:
            self.errors.pop(name, None)
            self.cleaned_data.pop(name, None)
        sent = self.cleaned_data
        if sent.get("smtp_host") and sent.get("mail_sender") == "":
            self.add_error("mail_sender", _("Mails need an address that they come from."))
        if not sent.get("smtp_password") and self._would_give_the_password_away():
            self.add_error("smtp_password", _("Enter it again, or forget it: it would go to another mail server."))
        return sent

    def _would_give_the_password_away(self) -> bool:
        """Whether one that nobody can read here would now go elsewhere, or there in the open."""
        before, after = config.read(), {**config.read(), **self.cleaned_data}
        after |= {name: value for name, value in defaults().items() if name in self.unset}
        is_moved = any(before[name] != after[name] for name in ("smtp_host", "smtp_port"))
        is_opened = after["smtp_tls"] == "none" != before["smtp_tls"]
        return bool(before["smtp_password"] and "smtp_password" not in self.unset and after["smtp_host"]) and (
            is_moved or is_opened
        )

    def sections(self, *, set_here: Collection[str]) -> Iterator[Section]:
        for title, names in settings.CONSTANCE_CONFIG_FIELDSETS:
            yield Section(title, [self._setting(name.lower(), set_here) for name in names])

    def _setting(self, name: str, set_here: Collection[str]) -> Setting:
        return Setting(self[name], name in set_here, name in self.unset, is_secret(name))


def bounds(name: str) -> str:
    """As “0 to 365 days.”; "" for what is no number."""
    field = fields()[name]
    number = field.child if isinstance(field, WholeNumbersField) else field
    if not isinstance(number, forms.IntegerField):
        return ""
    unit = UNITS.get(settings.CONSTANCE_CONFIG[name.upper()][2], "")
    least, most = of_number(number)
    words = {"least": count(least), "most": count(most), "unit": unit}
    return (_("%(least)s to %(most)s %(unit)s.") if unit else _("%(least)s to %(most)s.")) % words


def of_number(field: forms.IntegerField) -> tuple[int, int]:
    least, most = field.min_value, field.max_value
    assert isinstance(least, int)
    assert isinstance(most, int)
    return least, most


def default_words(name: str) -> str:
    """As “Default: 365.”, which the environment gives; "" of a secret."""
    default = settings.CONSTANCE_CONFIG[name.upper()][0]
    if is_secret(name):
        return ""
    shown = ", ".join(map(str, default)) if isinstance(default, list) else str(default)
    return _("Default: %(default)s.") % {"default": shown or _("none")}
