"""The audit trail: one entry per thing that somebody did, with what was before and after, and without secrets."""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from typing import Any, TypedDict, Unpack

from django.db.models import Model
from django.http import HttpRequest
from rest_framework.request import Request

from accounts import chain
from accounts.models import ApiToken, AuditEntry, User

AnyRequest = HttpRequest | Request
Facts = dict[str, Any]  # by field

# What has a name like this is nobody's business.
SECRET = re.compile(r"passw|passphrase|secret|encrypted|private|sha256|session_hash", re.IGNORECASE)
HIDDEN = "..."
LONGEST_TEXT, MOST_OF_A_LIST = 2_000, 100

# The request that is being answered, set by accounts/middleware.py: for what happens deep below the view.
answered: ContextVar[HttpRequest | None] = ContextVar("answered", default=None)


def address_of(request: AnyRequest | None) -> str | None:
    """The caller's address; behind a proxy that TRUSTED_PROXIES names, uvicorn has already put it here."""
    return (request.META.get("REMOTE_ADDR") or None) if request else None


class Said(TypedDict, total=False):
    """What there is to say of what somebody did. Without `user`, the request's user did it."""

    request: AnyRequest | None
    user: User | None
    username: str
    target: str
    detail: Mapping[str, Any] | None


def record(action: str, **said: Unpack[Said]) -> AuditEntry:
    """Write one entry, last in a transaction (accounts/chain.py)."""
    entry = entry_of(action, **said)
    chain.append(entry)
    return entry


def entry_of(action: str, **said: Unpack[Said]) -> AuditEntry:
    """The same, still to be written: for who has many at once."""
    request, user = said.get("request") or answered.get(), said.get("user")
    if user is None and request is not None and isinstance(request.user, User):
        user = request.user
    token = getattr(request, "auth", None)
    machine = {"api_token": token.prefix} if isinstance(token, ApiToken) else {}
    return AuditEntry(
        user=user,
        username=(said.get("username") or (user.username if user else ""))[:150],
        # As the database will have it, which writes an IPv6 address in one way.
        address=AuditEntry._meta.get_field("address").get_prep_value(address_of(request)),
        action=action,
        target=said.get("target", "")[:200],
        detail=plain({**(said.get("detail") or {}), **machine}),
    )


def as_data(entry: AuditEntry) -> dict[str, Any]:
    """For a file of JSON lines: all that the digest is made of, and the digest."""
    return {
        "number": entry.number, "at": entry.at.isoformat(), "user": entry.user_id, "username": entry.username,
        "address": entry.address, "action": entry.action, "target": entry.target, "detail": entry.detail,
        "digest": entry.digest,
    }  # fmt: skip


# --- Before and after ---------------------------------------------------------------------------


def facts(thing: Model) -> Facts:
    """What somebody may set of it, and nothing that is secret."""
    fields = [each for each in thing._meta.concrete_fields if each.editable and not each.primary_key]
    found: Facts = {}
    for field in fields:
        value = getattr(thing, field.attname)
        if isinstance(value, dict):  # of JSON each by itself
            found |= {f"{field.name}.{name}": each for name, each in value.items()}
        else:
            found[field.name] = Row(field.related_model, value) if field.related_model and value is not None else value
    for relation in thing._meta.many_to_many:
        found[relation.name] = sorted(name_of(row) for row in getattr(thing, relation.name).all())
    return {name: value for name, value in found.items() if not SECRET.search(name)}


def difference(before: Facts, after: Facts) -> dict[str, Facts]:
    """As an entry's detail has it; empty where nothing is different. Of what is new there is no before."""
    nothing: tuple[Any, ...] = (None, "", [])
    names = [
        name
        for name in {**before, **after}
        if before.get(name) != after.get(name) and not (before.get(name) in nothing and after.get(name) in nothing)
    ]
    told = {"before": before, "after": after} if names else {}
    return {when: {name: known[name] for name in names if name in known} for when, known in told.items()}


def record_change(
    action: str, thing: Model, before: Facts, *, request: AnyRequest | None = None, target: str = "", **more: Any
) -> None:
    """One entry with what is different now from `before`, the facts of then; none if nothing is."""
    if detail := {**difference(before, facts(thing)), **more}:
        record(action, request=request, target=target or name_of(thing), detail=detail)


@dataclass(frozen=True)
class Row:
    """A row that another one points to: asked for its name only if that is told."""

    model: Any
    pk: Any

    def __str__(self) -> str:
        row = self.model._base_manager.filter(pk=self.pk).first()
        return name_of(row) if row else f"#{self.pk}"


def name_of(thing: Model) -> str:
    """For people: a plan with its server, a permission as the API calls it."""
    return str(getattr(thing, "full_name", None) or getattr(thing, "codename", None) or thing)


def plain(value: Any, name: str = "") -> Any:
    """As JSON has it, whatever it is: no secrets, no book."""
    if value and SECRET.search(name):
        return HIDDEN
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {str(key): plain(each, str(key)) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            values = [plain(each) for each in list(value)[:MOST_OF_A_LIST]]
            return values if len(value) <= MOST_OF_A_LIST else [*values, f"{HIDDEN} {len(value)}"]
        case date():
            return value.isoformat()
    text = str(value)
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + HIDDEN
