from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from alerts import outbound
from alerts.channels.base import ChannelKind
from alerts.channels.webhook import AddressField
from alerts.models import Delivery

ENDS = {"start": "/start", "success": "", "failure": "/fail"}


class PingForm(forms.Form):
    url = AddressField(
        label=gettext_lazy("Ping address"), max_length=2000,
        help_text=gettext_lazy("As healthchecks.io gives it; /start and /fail are put behind it."),
    )  # fmt: skip


class Ping(ChannelKind):
    """A watchman outside, who raises the alarm when nothing is heard: also when this whole machine is gone."""

    name = "ping"
    label = gettext_lazy("Ping (healthchecks.io)")
    sentence_help = gettext_lazy("Start, success and failure of each run of its plans, for a watchman outside.")
    form = PingForm
    of_plans = True

    def send(self, delivery: Delivery, words: dict[str, Any]) -> None:
        # A test is a sign of life. Nothing else that is no good run may be taken for one.
        what = delivery.message.get("ping", "success" if delivery.kind == Delivery.Kind.TEST else "failure")
        url = self.target["url"].rstrip("/") + ENDS[what]
        outbound.send(url, headers={"User-Agent": "phpBorg"}, method="HEAD")
