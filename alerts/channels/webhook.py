import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from alerts import outbound
from alerts.channels.base import ChannelKind
from alerts.models import Delivery


class AddressField(forms.CharField):
    """Of something that speaks HTTP; where its name leads is judged when something is sent."""

    def clean(self, value: Any) -> str:
        text: str = super().clean(value)
        if not text:
            return text
        try:
            parts = urlsplit(text)
            is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_one = False
        if not is_one or not text.isascii() or not text.isprintable() or " " in text or "@" in parts.netloc:
            raise ValidationError(_("Enter an address as https://example.org/hook."))
        return text


class WebhookForm(forms.Form):
    url = AddressField(label=gettext_lazy("Address"), max_length=2000)
    secret = forms.CharField(
        label=gettext_lazy("Secret"), min_length=16, max_length=200,
        help_text=gettext_lazy("With which each message is signed; the receiver must know it too."),
    )  # fmt: skip


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Hexadecimal HMAC-SHA256 of the time, a dot and the body: an old message cannot be sent again as a new one."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook(ChannelKind):
    name = "webhook"
    label = gettext_lazy("Webhook")
    form = WebhookForm

    def send(self, delivery: Delivery, words: dict[str, Any]) -> None:
        body = json.dumps({"id": delivery.pk, **words}, ensure_ascii=False).encode()
        timestamp = str(int(time.time()))
        outbound.send(
            self.target["url"], body,
            {
                "Content-Type": "application/json", "User-Agent": "phpBorg", "X-phpBorg-Delivery": str(delivery.pk),
                "X-phpBorg-Timestamp": timestamp,
                "X-phpBorg-Signature": f"sha256={signature(self.target['secret'], timestamp, body)}",
            },
        )  # fmt: skip
