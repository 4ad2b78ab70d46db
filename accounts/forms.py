from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.access import PERMISSION_LABELS, can
from accounts.models import ApiToken, User, zone_names
from accounts.throttle import refuse_impatient


class LoginForm(AuthenticationForm):
    error_messages = {
        "invalid_login": _("The name or the password is wrong."),
        "inactive": _("This account is switched off."),
    }

    def clean(self) -> dict[str, Any]:
        refuse_impatient(self.cleaned_data.get("username") or "", self.request)
        return super().clean()


class ProfileForm(forms.ModelForm[User]):
    time_zone = forms.ChoiceField(label=_("Time zone"), required=False)

    class Meta:
        model = User
        fields = ["first_name", "last_name", "email", "time_zone", "language", "theme"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zones = [(zone, zone) for zone in sorted(zone_names())]
        self.fields["time_zone"].choices = [("", _("As the site")), *zones]  # type: ignore[attr-defined]


class ApiTokenForm(forms.Form):
    """`lifetime` is in days; "" is for ever."""

    name = forms.CharField(
        label=_("Name"), max_length=100, help_text=_("What will use it: a script, a machine, a monitoring system.")
    )
    permissions = forms.MultipleChoiceField(label=_("It may"), widget=forms.CheckboxSelectMultiple)
    lifetime = forms.ChoiceField(
        label=_("Ends after"),
        required=False,
        initial=str(ApiToken.LIFETIME.days),
        choices=[("30", _("30 days")), ("90", _("90 days")), ("365", _("A year")), ("", _("Never"))],
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["permissions"].choices = [  # type: ignore[attr-defined]
            (name, label) for name, label in PERMISSION_LABELS.items() if can(user, name)
        ]

    def clean(self) -> dict[str, Any]:
        days = self.cleaned_data.pop("lifetime", "")
        return {**self.cleaned_data, "expires_at": timezone.now() + timedelta(days=int(days)) if days else None}
