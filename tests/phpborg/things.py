"""One of everything that the routes of the API are about, in every state that an answer depends on."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.test import RequestFactory
from django.utils import timezone

from accounts import audit, factor, tokens
from accounts.models import ApiToken, SecondFactor, User
from alerts.models import Channel, Delivery, Incident, Rule
from backups import catalog, diffs
from backups.borg.changes import Change, Kind
from backups.models import Archive, Mount, Plan, Repository, Source, StoragePool
from jobs.models import Job
from servers.models import Server
from tests.backups.replay import entry
from tests.conftest import HOST_KEY, PASSWORD, make_archive, make_proof

NAME = re.compile(r"\{(\w+)\}")
ALONE = re.compile(r"\A\{(\w+)\}\Z")


def made_for(user: User, archive: Archive, folder: Path) -> dict[str, Any]:
    """By the names that stand in braces in the contract: ids, and a few texts."""
    plan, server, repository = archive.plan, archive.server, archive.repository
    assert plan
    now = timezone.now()
    somebody = User.objects.create_user("sam", password=PASSWORD)
    veteran = User.objects.create_user("ulla", password=PASSWORD)
    audit.record("login", user=veteran)
    careful = User.objects.create_user("tina", password=PASSWORD)
    factor.begin(careful)
    SecondFactor.objects.filter(user=careful).update(confirmed_at=now)
    request = RequestFactory().get("/")
    request.user = careful
    change = {"before": {"enabled": False}, "after": {"enabled": True}}
    audit.record("plan.changed", user=user, target=plan.full_name, detail=change)
    emptied, unused_pool = (StoragePool.objects.create(name=name, path=str(folder / name)) for name in ("a", "b"))
    account = StoragePool.objects.create(
        name="box", path="./borg", address="192.0.2.8", username="u1", host_key_seen=HOST_KEY
    )
    mounted = make_archive(plan)
    Mount.objects.create(
        archive=mounted, place="default", machine="web", path="/x", mounted_at=now, expires_at=now + timedelta(hours=1)
    )
    catalog.build(archive, [entry(b"etc/"), entry(b"etc/hosts", size=7)])
    compared = make_archive(plan)  # the last good one, so that the others may go
    diffs.build(
        compared, archive, [Change(b"etc/hosts", Kind.CHANGED, 120, 80, mode="-rw-r--r-- → -rw-------")], lambda _: []
    )
    channel = Channel(name="on-call", kind="webhook")
    channel.set_target({"url": "https://hook.example/t0ken", "secret": "a signing s3cret of the hook"})
    channel.save()
    rule = Rule.objects.create(name="failures", event="backup_failed", severity="critical")
    rule.channels.add(channel)
    alert = Incident.objects.create(
        rule=rule, subject=f"plan:{plan.pk}", name=plan.full_name, event=rule.event, severity=rule.severity,
        facts={"error": "The disk is full."}, server=server, plan=plan,
    )  # fmt: skip
    Delivery.objects.create(channel=channel, rule=rule, kind="problem", count=1, message={"items": [{"name": "web-1"}]})
    backup = {"type": "backup", "subject": f"plan:{plan.pk}", "server": server, "repository": repository}
    return {
        "rule": rule.pk, "channel": channel.pk, "alert": alert.pk,
        "server": server.pk, "plan": plan.pk, "repository": repository.pk, "pool": repository.pool_id,
        "kit": repository.kit_number, "compared": compared.pk, "proof": make_proof(archive).pk,
        "archive": archive.pk, "mounted": mounted.pk, "source": plan.sources.get().pk, "account": account.pk,
        "empty_server": Server.objects.create(name="new", address="192.0.2.9").pk, "unused_pool": unused_pool.pk,
        "empty_repository": Repository.objects.create(name="old", server=server, pool=emptied, state="ready").pk,
        "unused_source": Source.objects.create(name="var", server=server, parameters={"paths": ["/var"]}).pk,
        "unused_plan": Plan.objects.create(name="idle", server=server, repository=repository).pk,
        "fingerprint": server.fingerprint, "account_fingerprint": account.fingerprint_seen,
        "job": Job.objects.create(status="failed", plan=plan, **backup).pk,
        "running": Job.objects.create(status="running", **{**backup, "subject": ""}).pk,
        "waiting": Job.objects.create(not_before=now + timedelta(hours=1), **{**backup, "subject": ""}).pk,
        "user": somebody.pk, "password": PASSWORD, "veteran": veteran.pk,
        "recovery_code": factor.renew_codes(careful, request)[0],
        "token": ApiToken.make(user, name="nightly", permissions=["backup.view"], expires_at=None)[0].pk,
        "refresh": tokens.log_in(user, request).refresh,
    }  # fmt: skip


def filled(text: Any, things: dict[str, Any]) -> Any:
    """The same with things where their names stand in braces, through and through; a name alone keeps its type."""
    if isinstance(text, dict):
        return {name: filled(value, things) for name, value in text.items()}
    if isinstance(text, list):
        return [filled(value, things) for value in text]
    if not isinstance(text, str):
        return text
    alone = ALONE.match(text)
    return things[alone[1]] if alone else NAME.sub(lambda found: str(things[found[1]]), text)
