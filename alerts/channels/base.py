"""The kinds of channels: each one file here. None of them says where it leads, to nobody, not even when it fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from django import forms
from django.utils.functional import Promise

from alerts.models import Channel, Delivery
from jobs.errors import Cause, Failure

HIDDEN = "***"


class NotDelivered(Failure):
    cause: ClassVar = Cause.NETWORK
    advice: ClassVar = "Look at the channel, and send a test from its page."


class NotDeliveredYet(NotDelivered):
    may_pass: ClassVar = True


class ChannelKind(ABC):
    name: ClassVar[str]
    label: ClassVar[str | Promise]
    of_plans: ClassVar[bool] = False  # it is told of each run of its plans, and stands in no rule
    form: ClassVar[type[forms.Form]]  # where it leads: every field of it is kept encrypted

    registry: ClassVar[dict[str, type[ChannelKind]]] = {}
    do_not_call_in_templates: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in vars(cls):
            cls.registry[cls.name] = cls

    def __init__(self, channel: Channel, target: dict[str, Any]) -> None:
        self.channel = channel
        self.target = target

    @abstractmethod
    def send(self, delivery: Delivery, words: dict[str, Any]) -> None:
        """Raises Failure."""

    def deliver(self, delivery: Delivery, words: dict[str, Any]) -> None:
        """The same, and what went wrong says nothing of where it leads. Raises Failure."""
        try:
            self.send(delivery, words)
        except Failure as error:
            sentence = self.without_secrets(str(error))
            kind = NotDeliveredYet if error.may_pass else NotDelivered
            raise kind(sentence, advice=self.without_secrets(error.own_advice)) from None

    def without_secrets(self, text: str) -> str:
        for secret in sorted(self.secrets(), key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text

    def secrets(self) -> set[str]:
        """All that must stand in no sentence."""
        return {str(value) for value in self.target.values() if len(str(value)) > 3}


def of_plans() -> list[str]:
    """The kinds that stand in no rule."""
    return [name for name, kind in ChannelKind.registry.items() if kind.of_plans]
