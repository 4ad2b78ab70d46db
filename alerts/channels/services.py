"""Slack, Teams, Telegram, ntfy, Gotify and others, through Apprise: those that speak HTTP and nothing else."""

import re
from typing import Any
from urllib.parse import unquote

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType, OverflowMode, plugins
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from alerts import outbound, texts
from alerts.channels.base import ChannelKind, NotDelivered, NotDeliveredYet
from alerts.models import Delivery, Rule

# Others run programs, read files, or open sockets of their own.
SERVICES = frozenset((
    "bark", "barks", "discord", "gchat", "gotify", "gotifys", "hassio", "hassios", "matrix", "matrixs", "mmost",
    "mmosts", "nctalk", "nctalks", "ntfy", "ntfys", "opsgenie", "pagerduty", "pbul", "pover", "prowl", "rocket",
    "rockets", "signal", "signals", "slack", "tgram", "twilio", "workflows", "wxteams", "zulip",
))  # fmt: skip
# Files of this machine, other addresses, and patience that is ours.
NO_OPTIONS = frozenset(("attach", "template", "redirect", "retry", "wait", "cto", "rto", "store", "e2ee"))
TYPES = {Rule.Severity.CRITICAL: NotifyType.FAILURE, Rule.Severity.WARNING: NotifyType.WARNING}


def parts_of(url: str) -> dict[str, Any]:
    """An address as Apprise itself reads it, so that what is judged is what is used. Raises ValidationError."""
    known = {"known": ", ".join(sorted(SERVICES))}
    unknown = ValidationError(_("It must begin with one of these, and “://”, and be whole: %(known)s.") % known)
    try:
        parts: dict[str, Any] = plugins.url_to_dict(url)  # type: ignore[no-untyped-call]
    except Exception as error:  # what a plugin does not expect it answers with whatever error Python has
        raise unknown from error
    if not parts or parts["schema"] not in SERVICES or not url.isprintable():
        raise unknown
    if refused := sorted(NO_OPTIONS & parts["qsd"].keys()):
        raise ValidationError(_("This may not stand in it: %(names)s.") % {"names": ", ".join(refused)})
    # Of what is too long for a service the beginning arrives: refused, it would be told to nobody.
    return {"overflow": OverflowMode.TRUNCATE, **parts}


def service_of(url: str) -> Apprise:
    """Apprise with this one service. Raises ValidationError."""
    # Without a time limit of its own it connects in the thread that is watched (alerts/outbound.py cuts it off).
    asset = AppriseAsset(
        app_id="phpBorg", app_desc="phpBorg", http_redirects=False, storage_mode="memory", service_timeout=0
    )
    plugin = Apprise.instantiate(parts_of(url), asset=asset)
    if plugin is None:
        raise ValidationError(_("Something is missing in it, or too much. Look it up at appriseit.com."))
    return Apprise(plugin, asset=asset)


class ServiceField(forms.CharField):
    """An address as Apprise writes it, of a service that is let through."""

    def clean(self, value: Any) -> str:
        text: str = super().clean(value)
        if text:
            service_of(text)
        return text


class ServiceForm(forms.Form):
    url = ServiceField(
        label=gettext_lazy("Address of the service"), max_length=2000,
        help_text=gettext_lazy("As Apprise writes it (appriseit.com), such as ntfys://ntfy.example.org/topic."),
    )  # fmt: skip


class Service(ChannelKind):
    name = "apprise"
    label = gettext_lazy("Slack, Teams, Telegram, ntfy, …")
    sentence_help = gettext_lazy("Through Apprise, which knows the ways of each service.")
    form = ServiceForm

    def secrets(self) -> set[str]:
        """All parts of the address: each service has its tokens elsewhere."""
        rest = self.target["url"].partition("://")[2]
        parts = {each for text in (rest, unquote(rest)) for each in re.split(r"[/:@?&=#,\s]+", text)}
        return {self.target["url"], rest, *(each for each in parts if len(each) > 3)}

    def send(self, delivery: Delivery, words: dict[str, Any]) -> None:
        try:
            service = service_of(self.target["url"])
        except ValidationError as error:
            raise NotDelivered(f"Apprise takes its address no more. {error.message}") from error
        kind = TYPES.get(words["severity"], NotifyType.INFO)
        if delivery.kind == Delivery.Kind.RECOVERY:
            kind = NotifyType.SUCCESS
        body = texts.body(self.channel.language, words)
        with outbound.watched():
            result = service.notify(body, title=words["title"], notify_type=kind, body_format=NotifyFormat.TEXT)
            if not result:
                # Why stands in its log alone, which goes nowhere else (LOGGING): tokens are in it.
                if status := re.search(r"error=(\d{3})\b", " ".join(entry.message for entry in result.logs())):
                    outbound.judged(int(status[1]))
                raise NotDeliveredYet("There is no way to the service, or it took nothing.")
