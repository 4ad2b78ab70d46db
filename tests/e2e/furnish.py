"""Fills the database of a running site with what no honest way brings: run with the site's own environment.

    python -m tests.e2e.furnish < facts.json

Reads what the tests made through the API, writes as JSON: the address of every page, of the rows here and of the
real ones, and a session for each person.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import Group  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts.models import ApiToken, User  # noqa: E402
from alerts import engine  # noqa: E402
from alerts.channels.base import ChannelKind  # noqa: E402
from alerts.events import EventKind  # noqa: E402
from alerts.models import Channel, Delivery, Rule  # noqa: E402
from backups.models import (  # noqa: E402
    Archive,
    BackupHour,
    Mount,
    Plan,
    Repository,
    RetentionPolicy,
    Source,
    StorageDay,
    StoragePool,
)
from jobs.models import Job, LogLine  # noqa: E402
from servers.models import Server, Tag  # noqa: E402
from tests.conftest import HOST_KEY, make_archive, make_proof  # noqa: E402

HOSTILE = "<img src=x onerror=alert(1)>"
SCRIPT = f"{HOSTILE}<script>alert(2)</script>\"'`{{{{7*7}}}}"
LONG = "no-space-in-" * 30 + SCRIPT  # breaks a line nowhere, if nobody makes it
ROLES = {"viewer": "ROLE_VIEWER", "operator": "ROLE_OPERATOR", "admin": "ROLE_ADMIN"}


def session_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return client.session.session_key or ""


def people() -> dict[str, str]:
    """One of each role and one of each look, who have chosen it: their sessions."""
    found = {}
    for name, role in ROLES.items():
        user, _ = User.objects.get_or_create(username=name)
        user.groups.add(Group.objects.get(name=role))
        found[name] = session_of(user)
    for language in ("en", "fr"):
        for theme in ("light", "dark"):
            user = User.objects.create_user(f"{language}-{theme}", language=language, theme=theme, first_name=HOSTILE)
            user.groups.add(Group.objects.get(name="ROLE_ADMIN"))
            ApiToken.make(user, name=HOSTILE, permissions=["backup.view"], expires_at=None)
            found[f"{language}-{theme}"] = session_of(user)
    return found


def failed_job(plan: Plan) -> Job:
    now = timezone.now()
    job = Job.objects.create(
        type="backup", status="failed", server=plan.server, plan=plan, repository=plan.repository,
        subject=f"plan:{plan.pk}", error=f"Borg said: {LONG}", advice=f"Look at {SCRIPT}", warnings=3,
        started_at=now - timedelta(minutes=9), completed_at=now, log_lines=4, attempts=2, max_attempts=3,
        user=User.objects.get(username="admin"), result={"unreadable_paths": [[LONG, SCRIPT]], "suspicion": SCRIPT},
    )  # fmt: skip
    for number, level in enumerate((10, 20, 30, 40), 1):
        LogLine.objects.create(
            job=job, server=plan.server, number=number, at=now, level=level, message=f"{SCRIPT} {LONG}", attempt=1
        )
    Plan.objects.filter(pk=plan.pk).update(last_job=job, last_outcome="failed", proof_failed=SCRIPT)
    return job


def two_days(plan: Plan) -> None:
    """What a curve of a server's size needs at least."""
    for days in (1, 2):
        at = timezone.now() - timedelta(days=days)
        Job.objects.create(
            type="backup", status="completed", server=plan.server, plan=plan, repository=plan.repository,
            created_at=at, started_at=at, completed_at=at, result={"original": 5 * 10**9, "deduplicated": 10**8},
        )  # fmt: skip


def restored_job(archive: Archive) -> Job:
    """A restore that has something to say about everything."""
    now = timezone.now()
    told = {
        "archive": archive.pk, "server": HOSTILE, "dry_run": True, "has_room": False, "needed": 12_000_000, "free": 5,
        "counts": {"new": 1, "differs": 2, "same": 3, "folders": 4}, "warnings": [SCRIPT],
        "collisions": [[LONG, "same"], [SCRIPT, "differs"]], "missing": [[LONG, SCRIPT]], "paths": [[LONG, SCRIPT]],
    }  # fmt: skip
    return Job.objects.create(
        type="restore", status="completed", server=archive.server, repository=archive.repository, result=told,
        subject=f"archive:{archive.pk}", started_at=now, completed_at=now,
        payload={"entries": [1], "where": "below", "directory": SCRIPT, "existing": "skip", "owners": True},
    )  # fmt: skip


def running_job(plan: Plan) -> Job:
    """In the middle of a path that is not kind. Of a place without workers, and alive, so that nobody ends it."""
    now = timezone.now()
    return Job.objects.create(
        type="backup", status="running", place="nowhere", server=plan.server, plan=plan, repository=plan.repository,
        started_at=now, heartbeat_at=now + timedelta(hours=1),
        progress={"path": LONG, "original": 61_000_000_000, "percent": 40, "files": 412_004},
    )  # fmt: skip


def hostile_plan(real: Plan) -> Plan:
    server = Server.objects.create(
        name=HOSTILE, address="192.0.2.7", host_key=HOST_KEY, host_key_seen=HOST_KEY[:-4] + "AAAA", system=HOSTILE,
        borg_path="/usr/bin/borg", borg_version="1.4.0", tested_at=timezone.now(), test_ok=False,
        leftover_public_key="ssh-ed25519 AAAA",
    )  # fmt: skip
    server.tags.add(*(Tag.objects.create(name=name) for name in ("prod", HOSTILE)))
    repository = Repository.objects.create(
        name=HOSTILE, server=server, pool=real.repository.pool, state="ready", borg_id="f" * 64, damage=SCRIPT,
        frozen=SCRIPT, passphrase_encrypted=real.repository.passphrase_encrypted, checked_at=timezone.now(),
        key_encrypted=real.repository.key_encrypted, verified_at=timezone.now(), compared_at=timezone.now(),
        original_bytes=9_000_000_000_000, compressed_bytes=8_000_000_000_000, deduplicated_bytes=70_000_000_000,
    )  # fmt: skip
    source = Source.objects.create(
        name=HOSTILE, server=server, parameters={"paths": [f"/{LONG}"], "excludes": [SCRIPT]}
    )
    plan = Plan.objects.create(
        name=HOSTILE, server=server, repository=repository, enabled=False, proof_days=0, schedule="30 2 * * *",
        retention=RetentionPolicy.objects.create(name=HOSTILE),
    )  # fmt: skip
    plan.sources.add(source)
    return plan


def past(pool: StoragePool) -> None:
    """Thirty days, for squares and curves."""
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    for days in range(1, 31):
        BackupHour.objects.create(
            began_at=now - timedelta(days=days), completed=days % 4, suspicious=days % 2 if days % 4 else 0,
            failed=int(days % 5 == 0),
        )  # fmt: skip
        StorageDay.objects.create(
            pool=pool, day=(now - timedelta(days=days)).date(), original_bytes=10**12 - days * 10**9,
            compressed_bytes=6 * 10**11, deduplicated_bytes=10**11 - days * 10**8, used_bytes=10**11,
        )  # fmt: skip


def alerts() -> dict[str, list[dict[str, Any]]]:
    """Rules that find what is wrong here, and what went to channels; nothing is sent, they are switched off."""
    channels = []
    for kind in ChannelKind.registry:
        channel = Channel(name=f"{kind} {HOSTILE}"[:60], kind=kind, enabled=False)
        channel.set_target({})
        channel.save()
        channels.append(channel)
    rules = []
    for event in ("host_key_changed", "repository_stopped", "check_owed"):
        rule = Rule.objects.create(
            name=f"{event} {HOSTILE}"[:60], event=event, severity="critical", quiet="22:00-07:00"
        )
        rule.channels.set(channels)
        rules.append(rule)
    engine.look()
    for channel in channels:
        for status in Delivery.Status:
            Delivery.objects.create(
                channel=channel, rule=rules[0], kind="problem", status=status, count=200, error=f"{SCRIPT} {LONG}",
                message={"items": [{"name": LONG}]},
            )  # fmt: skip
    return {
        "alert_rule_add": [{"event": event} for event in EventKind.registry],
        "alert_rule_edit": [{"pk": rule.pk} for rule in rules],
        "alert_channel_add": [{"kind": kind} for kind in ChannelKind.registry],
        "alert_channel_edit": [{"pk": channel.pk} for channel in channels],
        "alert_template": [{"language": language} for language, _name in settings.LANGUAGES],
    }


def furnish(real: dict[str, Any]) -> dict[str, Any]:
    plan = Plan.objects.get(pk=real["plan"])
    first, second = Archive.objects.filter(plan=plan).order_by("start")
    sessions = people()
    bad = hostile_plan(plan)
    suspicious = make_archive(
        bad, name=f"odd-{HOSTILE}", suspicion=SCRIPT, quarantine=SCRIPT, comment=f"{SCRIPT} {LONG}", pinned=True,
        command_line=f"borg create {LONG}",
    )  # fmt: skip
    gone = make_archive(bad, vanished_at=timezone.now(), suspicion=SCRIPT)
    Mount.objects.create(
        archive=gone, place="nowhere", machine=HOSTILE, path=f"/mnt/{LONG}", mounted_at=timezone.now(),
        expires_at=timezone.now() + timedelta(hours=1),
    )  # fmt: skip
    proof, unheld = make_proof(second), make_proof(suspicious, held=False, failure=SCRIPT)
    broken = StoragePool.objects.create(
        name=HOSTILE, path="/nowhere", problem=SCRIPT[:300], free_bytes=1_000, total_bytes=10**12,
        checked_at=timezone.now(),
    )  # fmt: skip
    account = StoragePool.objects.create(
        name="box", path="./borg", address="192.0.2.8", username="u1", host_key_seen=HOST_KEY
    )
    past(plan.repository.pool)
    two_days(bad)
    stranger = User.objects.create_user(HOSTILE, first_name=LONG[:150], email="x@example.org", is_active=False)
    role = Group.objects.create(name=f"role {HOSTILE}")
    stranger.groups.add(role)
    jobs = [real["job"], failed_job(bad).pk, restored_job(second).pk, running_job(bad).pk]
    pks = {
        "server": [plan.server.pk, bad.server.pk], "plan": [plan.pk, bad.pk], "job": jobs,
        "repository": [plan.repository.pk, bad.repository.pk],
        "pool": [plan.repository.pool.pk, broken.pk, account.pk], "archive": [second.pk, suspicious.pk, gone.pk],
        "proof": [proof.pk, unheld.pk], "retention": [bad.retention_id],
        "user": [User.objects.get(username="viewer").pk, stranger.pk], "role": [role.pk],
    }  # fmt: skip
    entries = {"archive_preview": real["texts"], "archive_folder": real["folders"]}
    others: dict[str, list[dict[str, Any]]] = {
        "plan_add": [{"server_pk": pk} for pk in pks["server"]],
        "archive_differences": [{"pk": second.pk, "other": first.pk}, {"pk": suspicious.pk, "other": gone.pk}],
        "archive_preview": [{"pk": second.pk, "entry": number} for number in entries["archive_preview"]],
        "archive_folder": [{"pk": second.pk, "folder": number} for number in entries["archive_folder"]],
        "archive_download": [{"pk": second.pk, "entry": real["texts"][0]}],
        "archive_image": [{"pk": second.pk, "entry": real["image"]}],
        "job_start": [
            {"job_type": "mount", "pk": second.pk}, {"job_type": "rename", "pk": suspicious.pk},
            {"job_type": "check", "pk": plan.repository.pk},
        ],
        "login_end": [{"name": "x"}], "user_login_end": [{"pk": stranger.pk, "name": "x"}],
        "user_token_revoke": [{"pk": stranger.pk, "token": 1}],
        **alerts(),
    }  # fmt: skip
    return {"pks": pks, "others": others, "sessions": sessions}


def addresses(found: dict[str, Any], names: dict[str, bool]) -> dict[str, list[str]]:
    """Of every page by its name; True: its address names something."""
    made = {}
    for name, names_something in names.items():
        kwargs = found["others"].get(name) or [{"pk": pk} for pk in found["pks"].get(name.partition("_")[0], [])]
        made[name] = [reverse(name, kwargs=each) for each in kwargs] if names_something else [reverse(name)]
    return made


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    found = furnish(asked)
    json.dump({"addresses": addresses(found, asked["names"]), "sessions": found["sessions"]}, sys.stdout)
