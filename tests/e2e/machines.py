"""Servers for tests that run jobs in their own process: rows that point to a real sshd."""

from __future__ import annotations

import getpass
import os
import shutil
from pathlib import Path
from typing import Any

from backups.models import Plan, Repository, Source, StoragePool
from backups.runners.init import InitRepository
from jobs.models import Job
from phpborg.embedded import Sshd
from servers.models import Server
from tests.conftest import run_now

# What our questions to a server need; a PATH of links to these is a machine without borg.
TOOLS = (
    "sh", "env", "id", "df", "uname", "mktemp", "mkfifo", "cat", "rm", "mkdir", "kill", "sleep", "printf",
    "bash", "sudo",
)  # fmt: skip


def machine(sshd: Sshd, **changes: Any) -> Server:
    """A server at `sshd`, its host key confirmed and our key let in."""
    values = {
        "name": "real-1",
        "address": "127.0.0.1",
        "username": getpass.getuser(),
        "use_sudo": False,
        "port": sshd.port,
    }
    server = Server.objects.create(**(values | changes))
    key = " ".join(sshd.host_key.with_suffix(".pub").read_text().split()[:2])
    Server.objects.filter(pk=server.pk).update(host_key=key, host_key_seen=key, borg_path=shutil.which("borg"))
    with sshd.authorized_keys.open("a") as file:
        file.write(f"restrict {server.public_key}\n")
    server.refresh_from_db()
    return server


def protect(server: Server, pool_path: Path, *paths: str, **parameters: Any) -> Plan:
    """A plan that saves `paths` of `server` into a new repository, made by a real borg."""
    pool, _ = StoragePool.objects.get_or_create(name="pool", path=str(pool_path))
    repository = Repository.objects.create(name=server.name, pool=pool, server=server)
    made = run_now(InitRepository.enqueue(repository))
    assert made.status == Job.Status.COMPLETED, made.error
    repository.refresh_from_db()
    source = Source.objects.create(name="s", server=server, parameters={"paths": list(paths), **parameters})
    plan = Plan.objects.create(name="p", server=server, repository=repository)
    plan.sources.add(source)
    return plan


def bin_without_borg(directory: Path) -> Path:
    directory.mkdir()
    for name in TOOLS:
        if found := shutil.which(name):
            (directory / name).symlink_to(found)
    return directory


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def log_of(job: Job) -> str:
    return "\n".join(line.message for line in job.lines.order_by("number"))


def same_tree(ours: Path, theirs: Path) -> bool:
    """Names, kinds, links and contents are the same."""
    names = {
        os.path.relpath(os.path.join(folder, name), ours)
        for folder, *kinds in os.walk(ours)
        for kind in kinds
        for name in kind
    }
    found = {
        os.path.relpath(os.path.join(folder, name), theirs)
        for folder, *kinds in os.walk(theirs)
        for kind in kinds
        for name in kind
    }
    if names != found:
        return False
    for name in names:
        a, b = ours / name, theirs / name
        if a.is_symlink() != b.is_symlink() or (a.is_symlink() and a.readlink() != b.readlink()):
            return False
        if a.is_file() and not a.is_symlink() and a.read_bytes() != b.read_bytes():
            return False
    return True
