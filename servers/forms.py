import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _

from servers.models import Server, Tag, validate_name

MOST_TAGS = 20


class TagsField(forms.Field):
    """Tags as words on a page, as a list in the API; unknown ones are made when the form is saved."""

    widget = forms.TextInput

    def to_python(self, value: Any) -> list[str]:
        words: Any = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value or []
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValidationError(_("This must be a list of words."))
        names = list(dict.fromkeys(str(word).lower() for word in words if word))
        if len(names) > MOST_TAGS:
            raise ValidationError(_("These are more than %(limit)d tags."), params={"limit": MOST_TAGS})
        for name in names:
            validate_name(name)
            if len(name) > Tag._meta.get_field("name").max_length:  # type: ignore[operator]
                raise ValidationError(_("“%(name)s...” is too long for a tag."), params={"name": name[:20]})
        return names

    def prepare_value(self, value: Any) -> Any:
        return " ".join(str(tag) for tag in value) if isinstance(value, list) else value


class PasswordForm(forms.Form):
    """The password of the SSH user, for one login. It is never shown again, and never stored."""

    password = forms.CharField(
        label=_("Password of the SSH user"),
        strip=False,
        max_length=512,
        # sudo reads one line.
        validators=[RegexValidator(r"\A[^\r\n]*\Z", _("A password that somebody can type has no line breaks."))],
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )


class ServerForm(forms.ModelForm[Server]):
    tags = TagsField(label=_("Tags"), required=False, help_text=_("Words to find and group servers by."))

    class Meta:
        model = Server
        fields = ["name", "address", "port", "username", "use_sudo", "tags", "enabled"]
        help_texts = {
            "name": _("As you call it; letters, digits, dots, dashes and underscores."),
            "address": _("A host name or an IP address."),
            "username": _("root, or a user who may run borg with sudo, or one whose own files are all there is."),
            "enabled": _("Nothing runs on a server that is switched off."),
        }

    def save(self, commit: bool = True) -> Server:
        names: list[str] = self.cleaned_data.pop("tags")
        server = super().save(commit=commit)
        server.tags.set([Tag.objects.get_or_create(name=name)[0] for name in names])
        return server

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        moved = {"address", "port"} & set(self.changed_data)
        if self.instance.pk and moved:
            # What was shown at the old address says nothing about the new one; what was confirmed still holds.
            self.instance.host_key_seen = ""
        return cleaned
