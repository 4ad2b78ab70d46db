from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, UsernameField
from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as DjangoPermission
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.access import PERMISSION_LABELS, ROLE_LABELS, Permission, can
from accounts.fields import TimeZoneField
from accounts.models import ApiToken, User
from accounts.people import givable
from accounts.throttle import refuse_impatient

NAME_TAKEN = _("A user with that username already exists.")
OWN_PREFIX = "ROLE_"


class LoginForm(AuthenticationForm):
    error_messages = {
        "invalid_login": _("The name or the password is wrong."),
        "inactive": _("This account is switched off."),
    }

    def clean(self) -> dict[str, Any]:
        refuse_impatient(self.cleaned_data.get("username") or "", self.request)
        return super().clean()


class ProfileForm(forms.ModelForm[User]):
    time_zone = TimeZoneField(label=_("Time zone"), required=False, empty=_("As the site"))

    class Meta:
        model = User
        fields = ["first_name", "last_name", "email", "time_zone", "language", "theme"]


class AccountForm(ProfileForm):
    """An account, for `manager`, who gives no more than they have."""

    roles = forms.MultipleChoiceField(
        label=_("Roles"), required=False, widget=forms.CheckboxSelectMultiple,
        help_text=_("All that any of them may. Shown are those that give no more than you have."),
    )  # fmt: skip
    new_password = forms.CharField(
        label=_("New password"), required=False, strip=False, max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("Empty: it stays as it is. A new one ends every session and login of this account."),
    )  # fmt: skip
    field_order = ["username", "first_name", "last_name", "email", "roles", "is_active", "new_password"]

    class Meta(ProfileForm.Meta):
        fields = ["username", "first_name", "last_name", "email", "is_active", "time_zone", "language"]
        field_classes = {"username": UsernameField}
        labels = {"is_active": _("May log in")}
        help_texts = {
            "is_active": _("Who is switched off has no session, and their API tokens open nothing. Their name stays."),
        }

    def __init__(self, *args: Any, manager: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["roles"].choices = [  # type: ignore[attr-defined]
            (role.name, ROLE_LABELS.get(role.name, role.name)) for role in givable(manager)
        ]
        if not self.instance.pk:
            self.fields["new_password"].required = True
            self.fields["new_password"].label = _("Password")
            self.fields["new_password"].help_text = _("Tell them in person; they change it on their profile.")
            return
        self.initial["roles"] = [group.name for group in self.instance.groups.order_by("name")]
        if self.instance == manager:  # a new one needs the old one: on the profile
            del self.fields["new_password"], self.fields["is_active"]

    def clean_username(self) -> str:
        """Compared as the API does: whoever is called Ada must not be taken for ada."""
        name: str = self.cleaned_data["username"]
        if User.objects.exclude(pk=self.instance.pk).filter(username__iexact=name).exists():
            raise ValidationError(NAME_TAKEN)
        return name

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # as Django's own forms do: only now the instance is filled in
        if password := self.cleaned_data.get("new_password"):
            try:
                validate_password(password, self.instance)
            except ValidationError as error:
                self.add_error("new_password", error)

    def save(self, commit: bool = True) -> User:
        user: User = super().save(commit=False)
        if password := self.cleaned_data.get("new_password"):
            user.set_password(password)
        user.save()
        user.groups.set(Group.objects.filter(name__in=self.cleaned_data["roles"]))
        return user


def refuse_own_name(name: str) -> str:
    """Raise ValidationError for what would pass for a role of phpBorg's: who has ROLE_ADMIN is an administrator."""
    if name.upper().startswith(OWN_PREFIX):
        raise ValidationError(_("What begins with ROLE_ are phpBorg's own roles."))
    return name


class RoleForm(forms.ModelForm[Group]):
    permissions = forms.MultipleChoiceField(
        label=_("It may"), widget=forms.CheckboxSelectMultiple, help_text=_("You can give what you have yourself.")
    )

    class Meta:
        model = Group
        fields = ["name"]

    def __init__(self, *args: Any, manager: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["permissions"].choices = [  # type: ignore[attr-defined]
            (str(name), label) for name, label in PERMISSION_LABELS.items() if can(manager, name)
        ]
        if self.instance.pk:
            held = set(self.instance.permissions.values_list("codename", flat=True))
            self.initial["permissions"] = [str(name) for name in PERMISSION_LABELS if name in held]

    def clean_name(self) -> str:
        return refuse_own_name(self.cleaned_data["name"])

    def save(self, commit: bool = True) -> Group:
        role: Group = super().save()
        others = role.permissions.exclude(codename__in=list(Permission))
        chosen = DjangoPermission.objects.filter(
            content_type__app_label="accounts", codename__in=self.cleaned_data["permissions"]
        )
        role.permissions.set([*others, *chosen])
        return role


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
