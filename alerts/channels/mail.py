from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from alerts import texts
from alerts.channels.base import ChannelKind
from alerts.models import Delivery
from alerts.sandbox import BadTemplate
from jobs import mail
from jobs.config import config

MOST = 20


class AddressesField(forms.CharField):
    """Mail addresses with commas between them."""

    def clean(self, value: Any) -> str:
        text: str = super().clean(value)
        addresses = [address.strip() for address in text.split(",") if address.strip()]
        if len(addresses) > MOST:
            raise ValidationError(_("These are more than %(most)d addresses.") % {"most": MOST})
        for address in addresses:
            validate_email(address)
        return ", ".join(dict.fromkeys(addresses))


class MailForm(forms.Form):
    to = AddressesField(
        label=gettext_lazy("Mail addresses"), max_length=2000, help_text=gettext_lazy("With commas between them.")
    )


class Mail(ChannelKind):
    name = "mail"
    label = gettext_lazy("Mail")
    form = MailForm

    def addresses(self) -> list[str]:
        return [address for address in self.target["to"].split(", ") if address]

    def secrets(self) -> set[str]:
        return {self.target["to"], *self.addresses()}

    def send(self, delivery: Delivery, words: dict[str, Any]) -> None:
        try:
            subject, text, html = texts.rendered(texts.template_of(self.channel.language), words)
        except BadTemplate:  # which was good when it was stored: the alert is what counts
            subject, text, html = texts.rendered(texts.OURS[self.channel.language], words)
        message = EmailMultiAlternatives(
            subject, text, to=self.addresses(),
            # The same for each attempt: a mail server that took one without our hearing of it, or a reader, knows it.
            headers={"Message-ID": f"<alert-{delivery.pk}-{delivery.created_at:%Y%m%d%H%M%S}@{host()}>"},
        )  # fmt: skip
        message.attach_alternative(html, "text/html")
        mail.send(message)


def host() -> str:
    return config.MAIL_SENDER.partition("@")[2] or "phpborg.invalid"
