"""The kinds of events: each a small class in alerts/kinds/, found by being there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from django import forms
from django.db.models import Model, Q, QuerySet
from django.utils.functional import Promise

from accounts.audit import name_of
from alerts.models import Rule
from backups.models import Plan
from jobs.config import config
from servers.models import Server


class NotKnown(Exception):
    """Nobody can say now whether it is so: what was open stays open."""


@dataclass(frozen=True)
class Finding:
    """That something is wrong with one thing now."""

    subject: str  # as "plan:7"
    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    server: int | None = None
    plan: int | None = None


class EventKind(ABC):
    """One kind of event. It looks at what is kept anyway, in one or two queries, however many things there are."""

    name: ClassVar[str]
    label: ClassVar[str | Promise]
    sentence_help: ClassVar[str | Promise]
    severity: ClassVar[Rule.Severity] = Rule.Severity.WARNING
    form: ClassVar[type[forms.Form]] = forms.Form  # its parameters
    has_scope: ClassVar[bool] = True
    by_workers: ClassVar[bool] = False  # a scheduler cannot see it

    registry: ClassVar[dict[str, type[EventKind]]] = {}
    do_not_call_in_templates: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in vars(cls):
            cls.registry[cls.name] = cls

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def parameter(self, name: str) -> Any:
        """As the rule has it, or what the form begins with."""
        return self.rule.parameters.get(name, self.form.base_fields[name].initial)

    @abstractmethod
    def find(self, now: datetime) -> Iterable[Finding]:
        """What is wrong now. Raises NotKnown."""

    @abstractmethod
    def watched(self, subjects: Iterable[str]) -> set[str]:
        """Those of `subjects` that are still looked at: of others nobody says that they are well again."""

    @classmethod
    @abstractmethod
    def sentence(cls, facts: dict[str, Any]) -> str:
        """What is wrong, in the language of now."""


class OfRows(EventKind):
    """About rows of one table, and those of them that are in the rule's scope."""

    model: ClassVar[type[Model]]

    @abstractmethod
    def rows(self) -> QuerySet[Any]:
        """All that are looked at, in scope."""

    @abstractmethod
    def is_so(self, now: datetime) -> Q:
        """Which of them something is wrong with."""

    def facts(self, row: Any, now: datetime) -> dict[str, Any]:
        return {}

    def find(self, now: datetime) -> Iterable[Finding]:
        for row in self.rows().filter(self.is_so(now)):
            yield self.finding(row, self.facts(row, now))

    def finding(self, row: Any, facts: dict[str, Any]) -> Finding:
        plan = row if isinstance(row, Plan) else None
        server = row.pk if isinstance(row, Server) else getattr(row, "server_id", None)
        return Finding(self.key(row.pk), name_of(row), facts, server, plan.pk if plan else None)

    @classmethod
    def key(cls, pk: int) -> str:
        return f"{cls.model._meta.model_name}:{pk}"

    def watched(self, subjects: Iterable[str]) -> set[str]:
        pks = [subject.partition(":")[2] for subject in subjects]
        return {self.key(pk) for pk in self.rows().filter(pk__in=pks).values_list("pk", flat=True)}

    # --- Scope -----------------------------------------------------------------------------------

    def scope(self, *, servers: str, plans: str) -> Q:
        """The rule's scope, by how a row leads to its servers and its plans."""
        rule = self.rule
        match rule.scope:
            case Rule.Scope.TAGS:
                return Q(**{f"{servers}__in": Server.objects.filter(tags__in=rule.tags.all())})
            case Rule.Scope.SERVERS:
                return Q(**{f"{servers}__in": rule.servers.all()})
            case Rule.Scope.PLANS:
                return Q(**{f"{plans}__in": rule.plans.all()})
        return Q()


class OfPlans(OfRows):
    """About plans that should run: not those that are paused, or whose server is switched off."""

    model = Plan

    def rows(self) -> QuerySet[Plan]:
        plans = Plan.objects.filter(enabled__in=[True], server__enabled=True).select_related("server")
        return plans.filter(self.scope(servers="server", plans="pk")).order_by("pk")


class OfSite(EventKind):
    """About the whole: there is one of it."""

    has_scope = False
    subject: ClassVar[str]
    subject_name: ClassVar[str] = "phpBorg"

    def watched(self, subjects: Iterable[str]) -> set[str]:
        return set(subjects)

    def finding(self, **facts: Any) -> Finding:
        return Finding(self.subject, self.subject_name, facts)


def local(at: str) -> str:
    """An ISO 8601 time as people read it, in the site's zone; "" stays so."""
    return f"{datetime.fromisoformat(at).astimezone(ZoneInfo(config.TIME_ZONE)):%Y-%m-%d %H:%M %Z}" if at else ""


def kind_of(rule: Rule) -> EventKind | None:
    """None: of a kind that this phpBorg does not know (any more)."""
    found = EventKind.registry.get(rule.event)
    return found(rule) if found else None


def sentence_of(event: str, facts: dict[str, Any]) -> str:
    """What is about no event, as a report, brings its own."""
    found = EventKind.registry.get(event)
    return found.sentence(facts) if found else facts.get("sentence", event)


def choices() -> list[tuple[str, str | Promise]]:
    return [(name, kind.label) for name, kind in sorted(EventKind.registry.items())]
