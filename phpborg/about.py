"""What the environment decides of this installation, for people to read: never a secret, only whether there is one."""

import platform
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from redis import RedisError

from accounts import encryption
from jobs import queue


class Fact(NamedTuple):
    label: str | Promise
    value: str
    variable: str = ""  # of the environment
    is_bad: bool = False


def environment() -> Iterator[Fact]:
    yield Fact(_("Database"), database(), "DATABASE_URL")
    yield Fact("Redis", redis(), "REDIS_URL")
    yield Fact(_("Data directory"), str(settings.DATA_DIR), "PHPBORG_DATA_DIR")
    yield Fact(_("Restore tests extract in"), str(settings.SCRATCH_DIR), "SCRATCH_DIR")
    yield encryption_keys()
    yield Fact(_("HTTPS"), _("insisted on") if settings.HTTPS else _("not insisted on"), "SITE_URL")
    yield Fact(_("Answers to"), ", ".join(sorted(settings.ALLOWED_HOSTS)), "ALLOWED_HOSTS")
    yield Fact(_("Trusted proxies"), settings.TRUSTED_PROXIES or _("none"), "TRUSTED_PROXIES")
    yield Fact(_("Places of workers"), ", ".join(settings.WORKER_PLACES), "WORKER_PLACES")
    yield Fact(
        _("Callers from a browser"), ", ".join(settings.CORS_ALLOWED_ORIGINS) or _("none"), "CORS_ALLOWED_ORIGINS"
    )
    yield Fact(_("Metrics"), metrics(), "METRICS_TOKEN, METRICS_ALLOWED")
    inside = ", ".join(map(str, settings.WEBHOOK_ALLOWED))
    yield Fact(_("Networks inside that alerts may go to"), inside or _("none"), "WEBHOOK_ALLOWED")


def versions() -> Iterator[Fact]:
    yield Fact("phpBorg", str(settings.SPECTACULAR_SETTINGS["VERSION"]))
    yield Fact("Django", django.get_version())
    yield Fact("Python", platform.python_version())
    try:
        borgs = queue.borgs_of_workers()
    except (RedisError, OSError):
        yield Fact("borg", _("not known: Redis is away"), is_bad=True)
        return
    if not borgs:
        yield Fact("borg", _("not known: no worker has said it"))
    for machine, version in sorted(borgs.items()):
        yield Fact(_("borg of the workers on %(machine)s") % {"machine": machine}, version, "BORG_PATH")


def database() -> str:
    known: dict[str, Any] = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"SQLite, {known['NAME']}"
    where = known["HOST"] or "localhost"
    port = f":{known['PORT']}" if known["PORT"] else ""
    return _("%(engine)s, %(name)s at %(where)s as %(user)s") % {
        "engine": connection.display_name, "name": known["NAME"], "where": f"{where}{port}", "user": known["USER"],
    }  # fmt: skip


def redis() -> str:
    """Without what stands before the @ or behind the ?, where a password may be."""
    if settings.REDIS_IS_EMBEDDED:
        return _("embedded, %(where)s") % {"where": settings.EMBEDDED_REDIS_SOCKET}
    parts = urlsplit(settings.REDIS_URL)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def encryption_keys() -> Fact:
    number = len(settings.ENCRYPTION_KEYS)
    try:
        encryption.verify()
        words = ngettext("%(n)s key; it reads what is stored", "%(n)s keys; they read what is stored", number)
        return Fact(_("Encryption keys"), words % {"n": number}, "ENCRYPTION_KEYS")
    except (encryption.WrongKey, ImproperlyConfigured) as error:
        return Fact(_("Encryption keys"), str(error), "ENCRYPTION_KEYS", is_bad=True)
    except DatabaseError:
        return Fact(_("Encryption keys"), _("the database cannot be asked"), "ENCRYPTION_KEYS", is_bad=True)


def metrics() -> str:
    ways = [_("with a token")] if settings.METRICS_TOKEN else []
    if settings.METRICS_ALLOWED:
        ways.append(_("from %(networks)s") % {"networks": ", ".join(map(str, settings.METRICS_ALLOWED))})
    return ", ".join(ways) or _("nobody may read them")
