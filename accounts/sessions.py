"""Who is signed in where: sessions of browsers and logins over the API, listed and ended.

SESSION_ENGINE: Django's sessions in the database, in rows that know whose they are.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends import db
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts import audit
from accounts.models import Session, TokenFamily, User

FROM = "signed_in_from"
MOST = 50  # of each kind: a program may log in every minute


class SessionStore(db.SessionStore):
    @classmethod
    def get_model_class(cls) -> type[Session]:
        return Session

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        row: Session = super().create_model_instance(data)  # type: ignore[assignment]  # of the model's class
        where = data.get(FROM, {})
        row.user_id = int(data[SESSION_KEY]) if SESSION_KEY in data else None
        row.name = name_of(row.session_key)
        row.address, row.user_agent = where.get("address"), where.get("user_agent", "")
        row.started_at = datetime.fromisoformat(where["at"]) if where else None
        return row


def name_of(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def note(request: HttpRequest) -> None:
    """Right after somebody was let in: from where."""
    request.session[FROM] = {
        "address": audit.address_of(request), "user_agent": request.headers.get("User-Agent", "")[:200],
        "at": timezone.now().isoformat(),
    }  # fmt: skip


@dataclass(frozen=True)
class Login:
    name: str
    by_browser: bool
    address: str | None
    user_agent: str
    since: datetime | None
    until: datetime
    is_this: bool = False


def logins_of(user: User, here: str | None = None) -> list[Login]:
    """The newest first, those of browsers before those over the API; `here` is the key of one's own session."""
    now = timezone.now()
    sessions = Session.objects.filter(user=user, expire_date__gt=now).order_by("-expire_date")
    families = TokenFamily.objects.filter(user=user, revoked_at=None, expires_at__gt=now).select_related("user")
    return [
        *(
            Login(row.name, True, row.address, row.user_agent, row.started_at, row.expire_date, row.session_key == here)
            for row in sessions[:MOST]
            if _is_of_this_password(row, user)
        ),
        *(
            Login(row.id.hex, False, row.address, row.user_agent, row.created_at, row.expires_at)
            for row in families.order_by("-created_at")[:MOST]
            if row.is_alive(now)
        ),
    ]


@transaction.atomic
def end(user: User, name: str, request: HttpRequest) -> bool:
    """End one of them; False if it had ended already."""
    families = TokenFamily.objects.filter(user=user, pk__in=_numbers(name), revoked_at=None)
    ended, _rows = Session.objects.filter(user=user, name=name).delete()
    if not ended and not families.update(revoked_at=timezone.now()):
        return False
    audit.record("login.ended", request=request, target=user.username, detail={"over_the_api": not ended})
    return True


def end_all(user: User, *, but: str | None = None) -> None:
    """End all, `but` the session of this key. API tokens go on."""
    Session.objects.filter(user=user).exclude(session_key=but).delete()
    TokenFamily.objects.filter(user=user, revoked_at=None).update(revoked_at=timezone.now())


@transaction.atomic
def end_others(user: User, request: HttpRequest) -> None:
    """The same because somebody asked for it: of oneself all but where one is."""
    end_all(user, but=request.session.session_key)
    audit.record("logins.ended", request=request, target=user.username)


def _is_of_this_password(row: Session, user: User) -> bool:
    kept = str(row.get_decoded().get(HASH_SESSION_KEY, ""))
    return constant_time_compare(kept, user.get_session_auth_hash())


def _numbers(name: str) -> list[UUID]:
    try:
        return [UUID(hex=name)]
    except ValueError:
        return []
