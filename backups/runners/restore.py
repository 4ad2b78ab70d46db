import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.access import Permission
from accounts.query import LARGEST
from backups.borg import commands
from backups.borg.commands import Access
from backups.borg.errors import RepositoryUnreadable, failure_of
from backups.borg.results import Entry, Unreadable, parse_contents, parse_files
from backups.catalog import Catalog, NotIndexed, as_argument, paths_of, readable
from backups.models import Archive, Source
from backups.placing import TREE, Place, Stat, Target, TargetUnusable, answered, inside
from backups.restoring import NO_ROOM, SHOWN, Chosen, Complaints, Ways, kind_of, lineage, overlap
from backups.runners.base import NEVER_MATCHED, ArchiveRunner, Follower, Ran, refuse_keyless, refuse_unready
from backups.sources.base import LinesField
from jobs.errors import Cause, Failure
from jobs.models import Job
from jobs.runner import Refused
from servers.models import Server
from servers.runners.base import refuse_unusable
from servers.ssh.command import NO_DIRECTORY, Command
from servers.ssh.detached import without_end
from servers.ssh.local import Local
from servers.ssh.remote import Remote
from servers.ssh.transport import ConnectionLost, NoSudo, Transport, Unreachable, run

DAMAGED = 102  # borg's warning for a file of which parts are gone and zeros took their place
JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOT_THERE = "It is not in the archive."
# Where databases live, and what their processes are called.
DATABASES = {
    "/var/lib/mysql": {"mysqld", "mariadbd"}, "/var/lib/postgresql": {"postgres"}, "/var/lib/mongodb": {"mongod"},
    "/var/lib/redis": {"redis-server"}, "/var/lib/ldap": {"slapd"}, "/var/lib/influxdb": {"influxd"},
}  # fmt: skip


class NotAllRestored(Failure):
    cause = Cause.SOURCE
    advice = "What else was asked for has been restored. The list below, and the log, say what is missing and why."


class NoRoom(Failure):
    cause = Cause.DISK
    advice = "Make room there, restore into a directory on another disk, or choose less."


class Interrupted(Failure):
    cause = Cause.NETWORK
    advice = "Start it again with “Skip what is there”: what is in its place already is whole, and is left as it is."


class NotTheSame(Failure):
    cause = Cause.DISK
    advice = "Something changed these files after they were restored, or the disk does not keep what is written to it."


class NumbersField(forms.JSONField):
    json_type = list, _("This must be a list of numbers.")


class RestoreForm(forms.Form):
    """What to restore, and where to. Without paths and entries, everything."""

    WHERE = (
        ("directory", _("Under a directory")),
        ("beside", _("Beside what is there")),
        ("place", _("In its place")),
    )
    EXISTING = (("overwrite", _("Overwrite it")), ("skip", _("Skip what is there")), ("both", _("Keep both")))
    OWNERS = (("True", _("As in the archive")), ("False", _("Those of the SSH user")))

    paths = LinesField(
        label=_("Paths"), required=False, help_text=_("One per line, as in the archive; empty: everything.")
    )
    entries = NumbersField(required=False, widget=forms.HiddenInput, help_text=_("Numbers from the listing."))
    server = forms.IntegerField(
        label=_("Server"), min_value=1, max_value=LARGEST, required=False, help_text=_("Empty: the archive's own.")
    )
    where = forms.ChoiceField(label=_("Where to"), choices=WHERE, required=False, widget=forms.RadioSelect)
    directory = forms.CharField(
        label=_("Into the directory"),
        max_length=4096,
        strip=False,
        required=False,
        help_text=_("On the server; made if it does not exist. The archive's folders are put below it."),
    )
    existing = forms.ChoiceField(
        label=_("What is there already"), choices=EXISTING, required=False, widget=forms.RadioSelect
    )
    owners = forms.NullBooleanField(label=_("Owners and modes"), widget=forms.RadioSelect(choices=OWNERS))
    verify = forms.BooleanField(
        label=_("Verify afterwards"), required=False,
        help_text=_("Reads back every file that was restored, and compares its SHA-256 with the archive's."),
    )  # fmt: skip
    dry_run = forms.BooleanField(
        label=_("Only look what would happen"), required=False, help_text=_("Changes nothing.")
    )

    def clean_entries(self) -> list[int]:
        entries = self.cleaned_data["entries"] or []
        if not isinstance(entries, list) or not all(type(number) is int for number in entries):
            raise ValidationError(_("This must be a list of numbers."))
        return entries

    def clean_paths(self) -> list[str]:
        paths: list[str] = self.cleaned_data["paths"]
        if any(".." in path.split("/") for path in paths):
            raise ValidationError(_("No path in an archive has “..” in it."))
        return paths

    def clean_server(self) -> int | None:
        number: int | None = self.cleaned_data["server"]
        if number is not None and not Server.objects.filter(pk=number).exists():
            raise ValidationError(_("There is no such server."))
        return number

    def clean_where(self) -> str:
        return self.cleaned_data["where"] or "directory"

    def clean_existing(self) -> str:
        return self.cleaned_data["existing"] or "overwrite"

    def clean_owners(self) -> bool:
        return self.cleaned_data["owners"] is not False

    def clean_directory(self) -> str:
        directory: str = self.cleaned_data["directory"]
        if self.cleaned_data.get("where", "directory") != "directory":
            return ""
        if not directory:
            raise ValidationError(self.fields["directory"].error_messages["required"], code="required")
        if not directory.startswith("/"):
            raise ValidationError(_("Enter a path from the root, as /srv/restore."))
        if any(ord(character) < 32 for character in directory):
            raise ValidationError(_("The path has a character that cannot be meant, as a line break."))
        if ".." in directory.split("/"):
            raise ValidationError(_("Enter the path without “..”."))
        return directory


class RestoreFiles(ArchiveRunner):
    """Put what an archive holds back onto a server, or onto another one.

    On the archive's own server borg extracts. Another one never learns passphrase or key: our borg reads the archive,
    and a tar of it goes there. Where somebody else may have something, or be at work, it is extracted into a private
    folder beside first (backups/placing.py).
    """

    type = "restore"
    label = _("Restore")
    permission = Permission.BACKUP_RESTORE
    form = RestoreForm
    icon = "restore"
    priority = Job.Priority.HIGH
    several_at_once = True
    idle_limit_seconds = 6 * 60 * 60  # of the largest file nothing is heard while it is hashed

    @classmethod
    def refuse(cls, subject: Archive) -> None:
        refuse_unready(subject.repository)

    @classmethod
    def _job(cls, subject: Archive, **values: Any) -> Job:
        server = target_of(subject, values["payload"])
        refuse_unusable(server)
        if server.pk == subject.server_id:
            refuse_keyless(subject.repository)
        return super()._job(subject, **values)

    @classmethod
    def audited(cls, subject: Archive, job: Job) -> dict[str, Any]:
        onto = target_of(subject, job.payload).name
        paths = paths_of(subject, job.payload.get("entries") or [])
        return {"onto": onto, **({"paths": paths} if paths else {}), **super().audited(subject, job)}

    def run(self) -> dict[str, Any]:
        archive, wish = self.subject, self.job.payload
        self.where: str = wish.get("where", "directory")
        self.existing: str = wish.get("existing", "overwrite")
        self.keeps_owners: bool = wish.get("owners", True)
        self.server = target_of(archive, wish)
        self.base: str = wish["directory"] if self.where == "directory" else "/"
        self.paths = self._paths(archive)
        self.result: dict[str, Any] = {
            "directory": self.base, "where": self.where, "server": self.server.name, "archive": archive.pk, "bytes": 0,
        }  # fmt: skip
        self.suffix = f".restored-{timezone.now():%Y%m%d-%H%M%S}"
        self.problems: list[list[str]] = []
        if self.is_elsewhere or wish.get("dry_run"):
            self.log.phase("connect")
            with self.server.connect() as machine:
                self.log.info(f"Connected to {self.server.name} ({machine.login}).")
                return self._preview(machine) if wish.get("dry_run") else self._restore(machine, None)
        with self.reached(archive.repository, archive.server) as (machine, access):
            return self._restore(machine, access)

    @property
    def is_elsewhere(self) -> bool:
        return self.server.pk != self.subject.server_id

    # --- The way of a restore ---------------------------------------------------------------------

    def _restore(self, machine: Remote, access: Access | None) -> dict[str, Any]:
        self.log.phase("prepare")
        target = Target(machine, self.log.checkpoint)
        chosen = Chosen()
        ways = Ways(chosen, self.suffix, self.where == "beside")
        if not (base := self._empty_directory(target)):
            self._choose(chosen)
            place = target.look(self._lowest(chosen))
            self._refuse_without_room(place, chosen.size)
            self._warn(place, ways)
            self._through_staging(target, access, place, ways)
        else:
            self._right_into(machine, access, base)
        if self.job.payload.get("verify"):
            self._verify(target, base or self.base, ways)
        if self.problems:
            raise NotAllRestored(f"{len(self.problems)} paths could not be restored.", result={
                **self.result, "unreadable_paths": self.problems[:SHOWN],
            })  # fmt: skip
        self.log.info(f"Restored into {self.base} on {self.server.name}.")
        return self.result

    def _empty_directory(self, target: Target) -> str:
        """The directory, made, if one may extract right into it: nobody has, or can put, anything there."""
        if self.where != "directory" or not self.keeps_owners:
            return ""
        try:
            place = target.look(self.base)
        except NoSudo:
            # Only borg is root there, as of old: whoever else is on the way is the SSH user.
            if self.is_elsewhere or self.existing != "overwrite":
                raise
            self._make_directory(target.machine, self.base)
            return self.base
        if not place.is_for_us_alone:
            return ""
        self._refuse_without_room(place, self._bytes_by_catalog())
        return target.make(self.base)

    def _right_into(self, machine: Remote, access: Access | None, directory: str) -> None:
        try:
            self._extract(machine, access, directory, staged=False)
        except (ConnectionLost, Unreachable) as error:
            raise Interrupted(
                f"{error} What had been restored by then is in {directory} on {self.server.name}.",
                advice="Start it again with “Overwrite it”: the last file there may be half of one.",
                result=self.result,
            ) from error

    def _through_staging(self, target: Target, access: Access | None, place: Place, ways: Ways) -> None:
        with self._staging(target, place.home, ways) as staging:
            self._extract(target.machine, access, f"{staging}/{TREE}", staged=True)
            if not self.keeps_owners:
                target.disown(staging)
            self.log.phase("place")
            steps = target.place(
                staging, sorted(ways.chosen.roots), self.base, existing=self.existing, beside=ways.beside,
                suffix=self.suffix, follow=self.where != "directory", owners=self.keeps_owners,
            )  # fmt: skip
            for placed in steps:
                ways.placed = placed
                self.log.progress(entries=placed.count)
        ways.settle()
        placed = ways.placed
        self.result |= {"placed": placed.count, "skipped": len(placed.skipped), "kept_both": len(placed.beside)}
        self.problems += [[readable(path), why] for path, why in placed.failed]

    @contextmanager
    def _staging(self, target: Target, home: str, ways: Ways) -> Iterator[str]:
        """A private folder there, which goes whatever happens; what a lost connection left of another one goes too."""
        if not home:
            raise TargetUnusable(f"On {self.server.name} others may change the root folder itself.")
        staging, others = target.stage(home, str(self.job.pk))
        try:
            for job in Job.objects.filter(type=self.type, pk__in=filter(JOB_ID.fullmatch, others)):
                if job.has_ended:
                    target.remove(target.staging(home, str(job.pk)))
            yield staging
        except (ConnectionLost, Unreachable) as error:
            raise Interrupted(
                f"{error} {ways.placed.count} entries had been put in their place; the rest is in {staging} on "
                f"{self.server.name}, and goes with the next restore there.",
                result={**self.result, "placed": ways.placed.count, "staging": staging},
            ) from error
        finally:
            self._remove(target, staging)

    def _remove(self, target: Target, staging: str) -> None:
        if target.machine.is_alive:
            try:
                Target(target.machine, without_end).remove(staging)
            except Failure as error:
                self.log.warning(f"{staging} on {self.server.name} could not be removed: {error}")

    # --- Extracting -------------------------------------------------------------------------------

    def _extract(self, machine: Remote, access: Access | None, directory: str, *, staged: bool) -> None:
        self.log.phase("transfer")
        if access is None:
            self._send(machine, directory)
        else:
            self._let_borg_extract(machine, access, directory, staged=staged)
        self.result["bytes"] = self.log.latest("total", 0) or 0

    def _let_borg_extract(self, machine: Remote, access: Access, directory: str, *, staged: bool) -> None:
        command = commands.extract(access, self.subject.name, self.paths, directory=directory)
        if staged and self.server.needs_sudo:
            command = inside(command, directory)
        ran = self.follow(machine, command)
        if ran.code == NO_DIRECTORY:
            raise TargetUnusable(f"{self.server.username} may not enter {directory} on {self.server.name}.")
        self._judge(ran, "extract", staged=staged)

    def _judge(self, ran: Ran, name: str, *, staged: bool) -> None:
        """Raise for what is no restore at all; what is missing of one is kept for its end."""
        if ran.code == DAMAGED:
            raise RepositoryUnreadable("Parts of the archive are gone: what was restored has zeros in their place.")
        if not (ran.is_ok or ran.has_warnings):
            raise failure_of(name, ran.code, ran.messages)
        if staged and any(words in message.text for message in ran.messages for words in NO_ROOM):
            raise self._out_of_room()
        self.problems += [problem for problem in what_is_missing(ran) if problem not in self.problems]
        self.problems += [["…", "The log has more."]] * (ran.unreadable - len(ran.file_warnings) > 0)

    def _send(self, machine: Remote, directory: str) -> None:
        """Our borg reads the archive; a tar of it goes there as fast as it is taken."""
        archive = self.subject
        command = commands.export_tar_of(self.here(archive.repository), archive.name, self.paths)
        as_root = self.server.username == "root" or self.server.needs_sudo
        how = ("--same-owner", "--same-permissions") if as_root else ("--no-same-owner", "--same-permissions")
        tar = Command(("tar", "--extract", "--file=-", *how, f"--directory={directory}"), as_root=True)
        self.log.info(f"$ {command} | {tar}")
        follower, complaints, reads_on = Follower(self.log), Complaints(), True
        with Local().start(command, self.log.checkpoint) as source, machine.open(tar, self.log.checkpoint) as sink:
            for piece in follower.stdout_of(source):
                reads_on = sink.write(piece) and not complaints.of_no_room
                if not reads_on:
                    break
                complaints.take(sink.arrived())
            else:
                sink.finish()
            if not complaints.of_no_room:
                complaints.take(sink)
            code = sink.exit_code()
        for line in complaints.lines:
            self.log.warning(line)
        if complaints.of_no_room:
            raise self._out_of_room()
        if reads_on:
            self._judge(follower.ran, "export-tar", staged=True)
        if not reads_on or complaints.is_fatal or (code != 0 and not complaints.paths):
            why = complaints.last or "no answer"
            raise TargetUnusable(f"tar on {self.server.name} did not take the files: {why}", advice="Is GNU tar there?")
        self.problems += complaints.paths

    def _out_of_room(self) -> NoRoom:
        return NoRoom(
            f"There was no room left on {self.server.name} while it was extracted. Nothing was put in its place, and "
            "what was extracted is removed."
        )

    # --- What is asked for ------------------------------------------------------------------------

    def _paths(self, archive: Archive) -> list[str]:
        """The chosen paths as words for borg; numbers stand for entries of the listing, whatever their names."""
        paths = [posixpath.normpath(path.strip("/") or ".") for path in self.job.payload.get("paths", [])]
        numbers = self.job.payload.get("entries", [])
        if numbers:
            try:
                with Catalog(archive) as listing:
                    items = [item for number in numbers if (item := listing.item(number))]
                    paths += [as_argument(listing.path(item)) for item in items]
            except NotIndexed:
                raise Failure("The listing of this archive is gone; read it anew, then choose again.") from None
            if len(items) != len(numbers):
                raise Failure("Some of the chosen entries are not in the archive's listing; choose again.")
        # The root is everything; borg would take it for the one entry "." that it lists of a whole machine.
        return [] if {"", "."} & set(paths) else paths

    def _bytes_by_catalog(self) -> int:
        """Of what is asked for, about; 0 when nobody knows."""
        if not self.paths:
            return self.subject.original_bytes
        try:
            with Catalog(self.subject) as listing:
                found = [listing.find(path.encode("utf-8", "surrogateescape")) for path in self.paths]
        except NotIndexed:
            return 0
        return sum(item.size for item in found if item)

    def _choose(self, chosen: Chosen) -> None:
        """Ask borg what is there of it. Raises Failure when nothing is."""
        wanted = {path.encode("utf-8", "surrogateescape") for path in self.paths}
        for entry in self._entries():
            chosen.add(entry)
            wanted.difference_update(lineage(entry.path))
        chosen.roots = {root for root in chosen.roots if not chosen.roots.intersection(list(lineage(root))[:-1])}
        self.problems += [[readable(path), NOT_THERE] for path in sorted(wanted)]
        if not chosen.roots:
            raise NotAllRestored("Nothing of what was asked for is in the archive.", result={
                **self.result, "unreadable_paths": self.problems[:SHOWN],
            })  # fmt: skip
        self.result |= {"files": chosen.files, "paths": [
            [f"/{readable(root)}", self._readable(root, Ways(chosen, self.suffix, self.where == "beside"))]
            for root in sorted(chosen.roots)[:SHOWN]
        ]}  # fmt: skip

    def _readable(self, path: bytes, ways: Ways) -> str:
        return f"{self.base.rstrip('/')}/{readable(ways.of(path) or path)}"

    def _entries(self) -> Iterator[Entry]:
        command = commands.list_files(self.here(self.subject.repository), self.subject.name, self.paths)
        yield from parse_files(self._listing(command))

    def _listing(self, command: Command) -> Iterator[bytes]:
        self.log.info(f"$ {command}")
        follower = Follower(self.log)
        with Local().start(command, self.log.checkpoint) as process:
            try:
                for piece in follower.stdout_of(process):
                    self.log.progress()
                    yield piece
            except Unreadable as error:
                raise Failure(f"The listing of {self.subject.name} cannot be read: {error}.") from error
        if not (follower.ran.is_ok or follower.ran.has_warnings):
            raise failure_of("list", follower.ran.code, follower.ran.messages)

    # --- What stands in the way -------------------------------------------------------------------

    def _lowest(self, chosen: Chosen) -> str:
        """The folder that everything is put below: beside it is room for it on the right disk."""
        return self.base if self.where == "directory" else f"/{chosen.folder}"

    def _refuse_without_room(self, place: Place, needed: int) -> None:
        if place.free is not None and needed > place.free:
            raise NoRoom(
                f"{needed:,} bytes are needed at {place.reached} on {self.server.name}, and {place.free:,} are free.",
                result=self.result,
            )

    def _warn(self, place: Place, ways: Ways) -> list[str]:
        """Say what does not forbid it, but should be known."""
        results = [f"{self.base.rstrip('/')}/{as_argument(ways.of(root) or root)}" for root in ways.chosen.roots]
        warnings = [
            f"{' and '.join(sorted(names & place.processes))} is running on {self.server.name}, and {folder} holds its "
            "data: stop it first, or what is restored will be broken."
            for folder, names in DATABASES.items()
            if names & place.processes and any(overlap(folder, path) for path in results)
        ]
        warnings += [
            f"A backup of the plan {job.plan} is saving the same files just now."
            for job in Job.objects.filter(type="backup", status=Job.Status.RUNNING, server=self.server).exclude(
                plan=None
            )
            if any(overlap(source, path) for source in sources_of(job) for path in results)
        ]
        if not place.is_one_file_system:
            warnings.append(f"What is extracted lies in {place.home} first, on another disk, and is copied from there.")
        for warning in warnings:
            self.log.warning(warning)
        self.result["warnings"] = warnings
        return warnings

    def _make_directory(self, machine: Transport, directory: str) -> None:
        made = run(machine, Command(("mkdir", "-p", "--", directory)), self.log.checkpoint)
        if made.code != 0:
            complaint = " ".join(made.stderr)[-200:]
            raise TargetUnusable(f"The directory {directory} cannot be made on {machine.name}: {complaint}")

    # --- Looking first ----------------------------------------------------------------------------

    def _preview(self, machine: Remote) -> dict[str, Any]:
        """What a restore would do; nothing is changed."""
        self.log.phase("look")
        target, chosen = Target(machine, self.log.checkpoint), Chosen()
        self._choose(chosen)
        ways = Ways(chosen, self.suffix, self.where == "beside")
        place = target.look(self._lowest(chosen))
        self._warn(place, ways)
        counts = {"new": 0, "same": 0, "differs": 0, "folders": 0}
        collisions: list[list[str]] = []
        for entry, found in self._compared(target, ways):
            kind = kind_of(entry, found)
            counts[kind] += 1
            if kind in ("same", "differs") and len(collisions) < SHOWN:
                collisions.append([f"{self.base.rstrip('/')}/{readable(ways.of(entry.path) or entry.path)}", kind])
        return {
            **self.result, "dry_run": True, "bytes": chosen.size, "needed": chosen.size, "free": place.free,
            "has_room": place.free is None or chosen.size <= place.free, "counts": counts, "collisions": collisions,
            "missing": self.problems[:SHOWN],
        }  # fmt: skip

    def _compared(self, target: Target, ways: Ways) -> Iterator[tuple[Entry, Stat | None]]:
        """Each entry with what is at its destination."""
        names = (
            (ways.of(entry.path) or entry.path, entry) for entry in self._entries() if entry.path not in (b"", b".")
        )
        for _name, entry, found in answered(names, partial(target.stats, self.base)):
            yield entry, found

    # --- Verifying --------------------------------------------------------------------------------

    def _verify(self, target: Target, base: str, ways: Ways) -> None:
        """Read back what was restored. Raises NotTheSame."""
        self.log.phase("verify")
        if not ways.chosen.roots:
            self._choose(ways.chosen)
        began = timezone.now()
        files, wrong = 0, 0
        differing: list[list[str]] = []
        for path, expected, found in self._hashed(target, base, ways):
            files += 1
            self.log.progress(entries=files)
            if found != expected:
                wrong += 1
                why = "It cannot be read." if found is None else "Its content is not the archive's."
                differing += [[f"{base.rstrip('/')}/{readable(path)}", why]] if len(differing) < SHOWN else []
        seconds = round((timezone.now() - began).total_seconds(), 1)
        self.result["verified"] = {"files": files, "wrong": wrong, "seconds": seconds}
        if wrong:
            raise NotTheSame(f"{wrong} of {files} files are not as in the archive.", result={
                **self.result, "unreadable_paths": [*differing, *self.problems][:SHOWN],
            })  # fmt: skip
        self.log.info(f"Verified {files} files: each has the archive's SHA-256.")

    def _hashed(self, target: Target, base: str, ways: Ways) -> Iterator[tuple[bytes, str, str | None]]:
        """Of each restored file the path, the archive's SHA-256, and that of what is there."""
        names = ((name, sha256) for path, sha256 in self._hashes(ways.chosen) if (name := ways.of(path)) is not None)
        return answered(names, partial(target.hashes, base))

    def _hashes(self, chosen: Chosen) -> Iterator[tuple[bytes, str]]:
        """Each file that was asked for, with the archive's SHA-256; borg tells it of a hard link's first name only."""
        first_names = [as_argument(path) for path in chosen.links if not chosen.holds(path)] if self.paths else []
        command = commands.list_contents(
            self.here(self.subject.repository), self.subject.name, [*self.paths, *first_names]
        )
        for entry in parse_contents(self._listing(command)):
            if not entry.mode.startswith("-"):
                continue
            for name in [entry.path] * chosen.holds(entry.path) + chosen.links.get(entry.path, []):
                yield name, entry.sha256


def target_of(archive: Archive, wish: dict[str, Any]) -> Server:
    """Onto which server it goes. Raises Refused."""
    number = wish.get("server") or archive.server_id
    server = archive.server if number == archive.server_id else Server.objects.filter(pk=number).first()
    if server is None:
        raise Refused(str(_("There is no such server.")))
    return server


def sources_of(job: Job) -> list[str]:
    sources = Source.objects.filter(plans=job.plan_id)
    return [path for source in sources for path in source.parameters.get("paths", [])]


def what_is_missing(ran: Ran) -> list[list[str]]:
    """[path, why] of what borg could not restore, as far as it is kept."""
    never_matched = [
        [found["path"], NOT_THERE] for message in ran.messages if (found := NEVER_MATCHED.fullmatch(message.text))
    ]
    return never_matched + [[warning.path, warning.why] for warning in ran.file_warnings]
