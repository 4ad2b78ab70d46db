from __future__ import annotations

import re
from datetime import timedelta
from hashlib import sha256
from typing import Any, Self

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import encryption
from accounts.access import Permission, can
from accounts.addresses import page_of
from accounts.models import User, validate_time_zone
from backups.fields import validate_compression
from jobs.config import config
from servers.models import Server, SshAccount, validate_address, validate_name, validate_user_name
from servers.ssh.openssh import Identity
from servers.ssh.remote import HostKey
from servers.ssh.transport import HostKeyUnconfirmed

# What borg's own location syntax and every shell take as it stands.
validate_pool_path = RegexValidator(
    r"\A(\./?|\.?(/[A-Za-z0-9._@+-]+)+/?)\Z",
    _("Enter a path from the root, of letters, digits and . _ @ + - only, as /srv/borg."),
)


def validate_no_dots(value: str) -> None:
    if {".", ".."} & set(value.removeprefix(".").split("/")):
        raise ValidationError(_("The path must not have a “.” or “..” in it."))


class VisibleQuerySet(models.QuerySet[Any]):
    def for_user(self, user: User | AnonymousUser) -> Self:
        return self if can(user, Permission.BACKUP_VIEW) else self.none()


class StoragePool(SshAccount):
    """A folder in which repositories are made: on a worker's machine, or at an SSH account."""

    name = models.CharField(_("name"), max_length=60, unique=True, validators=[validate_name])
    path = models.CharField(
        _("path"),
        max_length=200,
        validators=[validate_pool_path, validate_no_dots],
        help_text=_("A folder that exists on the worker's machine and that phpBorg may write to."),
    )
    # "" for a folder on the worker's machine, which then has none of the rest of an account.
    address = models.CharField(_("address"), max_length=253, blank=True, default="", validators=[validate_address])
    username = models.CharField(_("SSH user"), max_length=64, blank=True, default="", validators=[validate_user_name])
    private_key_encrypted = models.TextField(blank=True, default="", editable=False)
    public_key = models.TextField(blank=True, default="", editable=False)
    borg_command = models.CharField(
        _("borg there"), max_length=100, blank=True, default="",
        validators=[RegexValidator(r"\A[A-Za-z0-9._/-]+\Z", _("Enter a name or a path, as borg-1.4."))],
        help_text=_("What borg is called at the account, if not borg: some storage boxes have several."),
    )  # fmt: skip
    keys_by_hand = models.BooleanField(
        _("keys are entered by hand"), default=False,
        help_text=_("For an account whose keys are managed on its provider's pages: phpBorg shows what to enter."),
    )  # fmt: skip
    place = models.CharField(
        _("place"),
        max_length=40,
        default="default",
        help_text=_("Whose workers can reach it; one of WORKER_PLACES."),
    )

    # What the last look found.
    checked_at = models.DateTimeField(null=True, editable=False)
    problem = models.CharField(max_length=300, blank=True, editable=False)
    free_bytes = models.BigIntegerField(null=True, editable=False)
    total_bytes = models.BigIntegerField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = VisibleQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["name"]
        verbose_name = _("storage pool")
        verbose_name_plural = _("storage pools")
        constraints = [models.UniqueConstraint(fields=["path", "address", "port", "username"], name="pool_by_place")]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.is_remote:
            self.make_key_pair()
        in_kits = {name: getattr(self, name) for name in ("path", "address", "port", "username", "borg_command")}
        is_another = self.pk is not None and not StoragePool.objects.filter(pk=self.pk, **in_kits).exists()
        super().save(*args, **kwargs)
        if is_another:
            self.forget_stored_kits()

    def get_absolute_url(self) -> str:
        return page_of("pool", self.pk)

    def confirm_host_key(self, fingerprint: str) -> bool:
        is_another = fingerprint != self.fingerprint
        is_confirmed = super().confirm_host_key(fingerprint)
        if is_confirmed and is_another:
            self.forget_stored_kits()
        return is_confirmed

    def forget_stored_kits(self) -> None:
        """What the recovery kits of its repositories say of it is not so any more (Repository.kit_is_stored)."""
        self.repositories.update(kit_stored_at=None)

    def clean(self) -> None:
        self.path = self.path.rstrip("/")
        if self.is_remote and not self.username:
            raise ValidationError({"username": _("Enter the user of the account.")})
        if not self.is_remote and self.path.startswith("."):
            raise ValidationError({"path": validate_pool_path.message})

    def same_place(self) -> models.QuerySet[StoragePool]:
        """Others that are where this one is."""
        place = {name: getattr(self, name) for name in ("path", "address", "port", "username")}
        return StoragePool.objects.filter(**place).exclude(pk=self.pk)

    @property
    def is_remote(self) -> bool:
        """Whether it is at an SSH account."""
        return self.address != ""

    @property
    def where(self) -> str:
        """Where it is, for people."""
        return f"{self.username}@{self.address}:{self.path}" if self.is_remote else self.path

    def identity(self) -> Identity:
        """Our own key for the account: for a worker's borg. Raises HostKeyUnconfirmed."""
        if not self.host_key:
            raise HostKeyUnconfirmed(f"Nobody has confirmed the host key of {self} yet.")
        return Identity(self.address, self.port, self.private_key(), HostKey.parse(self.host_key))

    @property
    def url(self) -> str:
        """What borg's locations begin with; a path of its own user's folder begins with a dot."""
        if not self.is_remote:
            return self.path
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"ssh://{self.username}@{address}:{self.port}/{self.path.lstrip('/')}"

    @property
    def state_shown(self) -> str:
        if self.checked_at is None:
            return "unknown"
        return "at-risk" if self.problem else "attention" if self.is_nearly_full else "protected"

    @property
    def state_label(self) -> str:
        labels = {
            "unknown": _("not looked at"), "at-risk": _("cannot be used"), "attention": _("nearly full"),
            "protected": _("ready"),
        }  # fmt: skip
        return str(labels[self.state_shown])

    @property
    def is_nearly_full(self) -> bool:
        """Whether somebody should make room, as long as backups still succeed."""
        if not self.total_bytes or self.free_bytes is None:
            return False
        least: float = max(self.total_bytes * config.POOL_LOW_PERCENT / 100, config.POOL_LOW_GB * 1e9)
        return self.free_bytes < least

    @property
    def used_share(self) -> float | None:
        """Between 0 and 1; None before the first look."""
        if not self.total_bytes or self.free_bytes is None:
            return None
        return 1 - self.free_bytes / self.total_bytes


class RepositoryQuerySet(VisibleQuerySet):
    WITHOUT_STORED_KIT = models.Q(state="ready", kit_stored_at=None)

    def without_stored_kit(self) -> Self:
        return self.filter(self.WITHOUT_STORED_KIT)


class Repository(models.Model):
    """A borg repository, for the archives of one server.

    One server each: several in one repository would weaken its encryption (they share counters)
    and make each of them read what the others wrote.
    """

    class State(models.TextChoices):
        CREATING = "creating", _("being made")
        READY = "ready", _("ready")
        FAILED = "failed", _("not made")

    name = models.CharField(_("name"), max_length=60, validators=[validate_name])
    pool = models.ForeignKey(StoragePool, models.PROTECT, related_name="repositories", verbose_name=_("storage pool"))
    server = models.ForeignKey(Server, models.PROTECT, related_name="repositories", verbose_name=_("server"))
    state = models.CharField(max_length=10, choices=State.choices, default=State.CREATING, editable=False)
    borg_id = models.CharField(max_length=64, blank=True, editable=False)
    encryption = models.CharField(max_length=30, default="repokey-blake2", editable=False)  # borg's name of the mode
    passphrase_encrypted = models.TextField(blank=True, editable=False)
    key_encrypted = models.TextField(blank=True, editable=False)  # `borg key export`

    # Of one at an SSH account: the key with which the server's own borg gets there, and may do nothing but add.
    server_key = models.TextField(blank=True, editable=False)  # public; the private one never leaves the server
    server_key_path = models.CharField(max_length=300, blank=True, editable=False)  # there

    # When somebody said that the recovery kit is stored, who, and the number of that kit.
    kit_stored_at = models.DateTimeField(null=True, editable=False)
    kit_stored_by = models.CharField(max_length=150, blank=True, default="", editable=False)  # outlives the user
    kit_stored = models.CharField(max_length=12, blank=True, default="", editable=False)

    # Why nothing may be written, deleted or compacted until a person has looked; "": nothing is wrong.
    damage = models.TextField(blank=True, editable=False)  # what `borg check` found
    frozen = models.TextField(blank=True, editable=False)  # what borg lists and what we recorded disagree in this
    is_damaged, is_frozen = (
        models.GeneratedField(
            expression=models.Case(models.When(**{name: ""}, then=False), default=True),
            output_field=models.BooleanField(), db_persist=True,
        )
        for name in ("damage", "frozen")
    )  # fmt: skip

    check_days = models.PositiveSmallIntegerField(
        _("check every (days)"), default=7, validators=[MaxValueValidator(3650)],
        help_text=_("Reads the whole repository on the machine where it lies. 0: never by itself."),
    )  # fmt: skip
    verify_days = models.PositiveSmallIntegerField(
        _("verify all data every (days)"), default=0, validators=[MaxValueValidator(3650)],
        help_text=_("Also decrypts and recomputes every chunk: slow, and the only proof. 0: never by itself."),
    )  # fmt: skip
    checked_at = models.DateTimeField(null=True, editable=False)  # the last check that found nothing
    verified_at = models.DateTimeField(null=True, editable=False)  # the same, with all data
    compared_at = models.DateTimeField(null=True, editable=False)  # borg's list with our record
    deleted_at = models.DateTimeField(null=True, editable=False)  # the newest deletion that is not compacted yet
    compacted_at = models.DateTimeField(null=True, editable=False)

    # Of all archives together, as the last backup told; bytes.
    original_bytes = models.BigIntegerField(default=0, editable=False)
    compressed_bytes = models.BigIntegerField(default=0, editable=False)
    deduplicated_bytes = models.BigIntegerField(default=0, editable=False)
    measured_at = models.DateTimeField(null=True, editable=False)
    archive_count = models.PositiveIntegerField(default=0, editable=False)  # as `note_archives` found it
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RepositoryQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["name"]
        verbose_name = _("repository")
        verbose_name_plural = _("repositories")
        constraints = [models.UniqueConstraint(fields=["pool", "name"], name="repository_name_in_pool")]
        indexes = [
            models.Index(fields=["name", "id"], name="repository_by_name"),
            models.Index(fields=["-deduplicated_bytes", "id"], name="repository_largest"),
            # All that is summed up and counted of ten thousand, without their long rows. No generated column: for
            # these SQLite reads the rows all the same.
            models.Index(
                fields=[
                    "original_bytes",
                    "compressed_bytes",
                    "deduplicated_bytes",
                    "archive_count",
                    "state",
                    "kit_stored_at",
                ],
                name="repository_sums",
            ),
            models.Index(fields=["is_damaged"], name="repository_damaged"),
            models.Index(fields=["is_frozen"], name="repository_frozen"),
            models.Index(fields=["state", "kit_stored_at"], name="repository_by_kit"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return page_of("repository", self.pk)

    @property
    def state_shown(self) -> str:
        """The state, of the five that pages know."""
        if self.state == self.State.READY:
            return "at-risk" if self.damage else "attention" if self.frozen else "protected"
        return "at-risk" if self.state == self.State.FAILED else "running"

    @property
    def state_label(self) -> str:
        """The state in a word or two."""
        if self.state == self.State.READY and (self.damage or self.frozen):
            return str(_("damaged") if self.damage else _("frozen"))
        return str(self.get_state_display())

    @property
    def path(self) -> str:
        """On the machine where it lies."""
        return f"{self.pool.path}/{self.name}"

    @property
    def location(self) -> str:
        """For borg: a path, or where it is over SSH."""
        return f"{self.pool.url}/{self.name}"

    @property
    def hold(self) -> str:
        """The key of "nobody else writes to it now" (Job.holds)."""
        return f"repository:{self.pk}"

    def passphrase(self) -> str:
        """Decrypt it: for a worker on its way to borg, or for an administrator who asked."""
        return encryption.decrypt(self.passphrase_encrypted)

    @property
    def kit_number(self) -> str:
        """Of the recovery kit as it would be now: another one when anything in it has changed.

        Made of what is encrypted, so it tells nothing, and whoever shows it decrypts nothing.
        """
        pool = self.pool
        parts = (
            self.location, pool.borg_command, pool.host_key, self.borg_id, self.encryption, self.passphrase_encrypted,
            self.key_encrypted,
        )  # fmt: skip
        return sha256("\0".join(parts).encode()).hexdigest()[:12]

    @property
    def kit_is_stored(self) -> bool:
        """Whether somebody has said so of the kit as it is now."""
        return self.kit_stored_at is not None and self.kit_stored == self.kit_number

    @property
    def saved_share(self) -> float | None:
        """What compression and deduplication spared, between 0 and 1."""
        return 1 - self.deduplicated_bytes / self.original_bytes if self.original_bytes else None

    def note_archives(self) -> None:
        """Keep how many there are, after every change: for who cannot count hundreds of thousands."""
        Repository.objects.filter(pk=self.pk).update(archive_count=self.archives.count())


class Source(models.Model):
    """What is saved of one server: a kind with its parameters (backups/sources)."""

    name = models.CharField(_("name"), max_length=60, validators=[validate_name])
    server = models.ForeignKey(Server, models.CASCADE, related_name="sources", verbose_name=_("server"))
    kind = models.CharField(_("kind"), max_length=40, default="files")
    parameters: models.JSONField[Any, Any] = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = VisibleQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["name"]
        verbose_name = _("source")
        verbose_name_plural = _("sources")
        constraints = [models.UniqueConstraint(fields=["server", "name"], name="source_name_on_server")]

    def __str__(self) -> str:
        return self.name


MOST_PROOF_FILES = 2_000  # of a sample
KEEP_RULES = ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")


class RetentionPolicy(models.Model):
    """How long archives are kept; borg's own words and meaning. 0: this rule keeps none."""

    name = models.CharField(_("name"), max_length=60, unique=True)
    keep_within = models.CharField(
        _("keep all within"), max_length=10, blank=True, default="2d",
        validators=[RegexValidator(r"\A[1-9]\d{0,4}[Hdwmy]\Z", _("Enter a number with H, d, w, m or y, as 2d."))],
    )  # fmt: skip
    keep_last = models.PositiveIntegerField(_("keep last"), default=0, validators=[MaxValueValidator(100_000)])
    keep_hourly = models.PositiveIntegerField(_("keep hourly"), default=0, validators=[MaxValueValidator(100_000)])
    keep_daily = models.PositiveIntegerField(_("keep daily"), default=7, validators=[MaxValueValidator(100_000)])
    keep_weekly = models.PositiveIntegerField(_("keep weekly"), default=4, validators=[MaxValueValidator(100_000)])
    keep_monthly = models.PositiveIntegerField(_("keep monthly"), default=12, validators=[MaxValueValidator(100_000)])
    keep_yearly = models.PositiveIntegerField(_("keep yearly"), default=0, validators=[MaxValueValidator(100_000)])
    most_deletions = models.PositiveIntegerField(
        _("delete at most"), default=100, validators=[MinValueValidator(1), MaxValueValidator(100_000)],
        help_text=_("Archives in one run. If more would go, none goes, and a person is asked."),
    )  # fmt: skip

    objects = VisibleQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["name"]
        verbose_name = _("retention policy")
        verbose_name_plural = _("retention policies")

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if not self.keep_within and not any(getattr(self, rule) for rule in KEEP_RULES):
            raise ValidationError(_("This policy keeps nothing: name at least one rule."))


class PlanQuerySet(VisibleQuerySet):
    def with_scope(self) -> Self:
        return self.select_related("server", "repository__pool", "retention", "last_job")


class Plan(models.Model):
    """Sources of one server, a repository, when, for how long, and how."""

    class Outcome(models.TextChoices):
        """How the last job ended, for counts that cannot look at ten thousand jobs."""

        GOOD = "good"
        WARNINGS = "warnings"
        SUSPICIOUS = "suspicious"
        FAILED = "failed"

    class Rank(models.IntegerChoices):
        """The states as stats.RANK has them, worst first; the last is for what has to be judged by the clock too."""

        AT_RISK = 0
        ATTENTION = 1
        UNKNOWN = 3
        PROTECTED = 4
        BY_THE_CLOCK = 5

    name = models.CharField(_("name"), max_length=60, validators=[validate_name])
    server = models.ForeignKey(Server, models.PROTECT, related_name="plans", verbose_name=_("server"))
    repository = models.ForeignKey(Repository, models.PROTECT, related_name="plans", verbose_name=_("repository"))
    sources: models.ManyToManyField[Source, Any] = models.ManyToManyField(
        Source, related_name="plans", verbose_name=_("sources")
    )
    retention = models.ForeignKey(
        RetentionPolicy, models.SET_NULL, null=True, blank=True, related_name="plans", verbose_name=_("retention")
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    compression = models.CharField(_("compression"), max_length=20, default="lz4", validators=[validate_compression])
    upload_kib_per_second = models.PositiveIntegerField(
        _("upload limit (KiB/s)"), default=0, help_text=_("0: as fast as it goes.")
    )
    schedule = models.CharField(
        _("schedule"), max_length=100, blank=True, help_text=_("A cron expression; empty: only by hand.")
    )
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC", validators=[validate_time_zone])
    blackout = models.TextField(
        _("not during"), blank=True,
        help_text=_("Windows in which no run starts, one per line, as “mon-fri 08:00-18:00” or “22:00-02:00”."),
    )  # fmt: skip
    spread_seconds = models.PositiveIntegerField(
        _("spread (seconds)"), default=300, validators=[MaxValueValidator(6 * 3600)],
        help_text=_("Each plan starts its own share of this later, so that not all start at once."),
    )  # fmt: skip
    proof_days = models.PositiveSmallIntegerField(
        _("test a restore every (days)"), default=30, validators=[MaxValueValidator(3650)],
        help_text=_("Files are restored from the newest archive on the worker, and compared. 0: never by itself."),
    )  # fmt: skip
    proof_files = models.PositiveSmallIntegerField(
        _("files of a restore test"), default=200, validators=[MaxValueValidator(MOST_PROOF_FILES)],
        help_text=_("Chosen by chance. 0: all, for which the worker needs as much free space as they take."),
    )  # fmt: skip
    next_run_at = models.DateTimeField(null=True, editable=False)
    due_at = models.DateTimeField(null=True, editable=False)  # when the newest scheduled run fell due
    # Its last run failed because the server was away: it runs as soon as the server answers.
    awaits_server = models.BooleanField(default=False, editable=False)
    # Kept by RunBackup.ended, so that a page about a thousand plans asks no table of a million jobs.
    last_job = models.ForeignKey("jobs.Job", models.SET_NULL, null=True, editable=False, related_name="+")
    last_outcome = models.CharField(max_length=10, blank=True, default="", editable=False)  # an Outcome
    last_took = models.DurationField(default=timedelta(0), editable=False)
    last_good_at = models.DateTimeField(
        null=True, editable=False
    )  # when the newest archive without suspicion was taken
    # When retention last ran well, kept by PruneArchives.ended.
    tidied_at = models.DateTimeField(null=True, editable=False)
    # Of restore tests, kept by backups/runners/proof.py.
    proved_at = models.DateTimeField(null=True, editable=False)  # the last one that held
    proof_failed = models.TextField(blank=True, default="", editable=False)  # why the last one did not hold; "": it did
    # When the next is due, and from when on it is too long ago; None until there is an archive to test.
    proof_due_at = models.DateTimeField(null=True, editable=False)
    proof_overdue_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    # What stats._rank says of it without the clock and its repository, for stats.ranks_of: an index has it.
    rank_alone = models.GeneratedField(
        expression=models.Case(
            models.When(enabled=False, then=Rank.UNKNOWN),
            models.When(last_job__isnull=False, last_outcome=Outcome.FAILED, then=Rank.AT_RISK),
            models.When(~models.Q(proof_failed=""), then=Rank.AT_RISK),
            models.When(due_at__isnull=False, last_good_at=None, then=Rank.BY_THE_CLOCK),
            models.When(due_at__gt=models.F("last_good_at"), then=Rank.BY_THE_CLOCK),
            models.When(last_job=None, then=Rank.UNKNOWN),
            models.When(last_outcome=Outcome.SUSPICIOUS, then=Rank.ATTENTION),
            models.When(last_good_at=None, then=Rank.AT_RISK),
            models.When(last_outcome=Outcome.WARNINGS, then=Rank.ATTENTION),
            default=Rank.PROTECTED,
        ),
        output_field=models.PositiveSmallIntegerField(), db_persist=True,
    )  # fmt: skip

    objects = PlanQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["server__name", "name"]
        verbose_name = _("plan")
        verbose_name_plural = _("plans")
        constraints = [models.UniqueConstraint(fields=["server", "name"], name="plan_name_on_server")]
        indexes = [
            models.Index(fields=["enabled", "next_run_at"], name="plan_by_next_run"),
            models.Index(fields=["awaits_server"], name="plan_by_awaits_server"),
            models.Index(fields=["proof_due_at"], name="plan_by_proof_due"),
            models.Index(fields=["proof_overdue_at"], name="plan_by_proof_overdue"),
            models.Index(fields=["rank_alone", "server"], name="plan_by_rank"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return page_of("plan", self.pk)

    def clean(self) -> None:
        if self.repository_id and self.server_id and self.repository.server_id != self.server_id:
            raise ValidationError({"repository": _("This repository belongs to another server.")})

    @property
    def full_name(self) -> str:
        """With its server: several may have a plan of this name."""
        return f"{self.server.name}/{self.name}"

    def note_last_good(self) -> None:
        """Keep when the newest good archive was taken, for the pages that ask no other table."""
        good = self.last_good_archive()
        Plan.objects.filter(pk=self.pk).update(last_good_at=good.taken_at if good else None)

    def last_good_archive(self) -> Archive | None:
        """The newest archive of the plan that nothing speaks against."""
        return self.archives.good().order_by("-taken_at", "-id").first()


class ArchiveQuerySet(VisibleQuerySet):
    _rest: tuple[Self, Any] | None = None  # with the condition of those that they are the rest of

    def good(self) -> Self:
        """Those that nothing speaks against."""
        return self.filter(suspicion="", quarantine="", vanished_at=None)

    def with_scope(self) -> Self:
        return self.select_related("server", "repository", "plan")

    def counted_without(self, rest: Self) -> Self:
        """The same, for `kept_count`: these are all but the `rest`, which are fewer."""
        rows = self.all()
        rows._rest = rest, rows.query.where.clone()
        return rows

    def kept_count(self) -> int | None:
        """The same as `count`, from what the repositories keep; None: of these nothing is kept."""
        rest, where = self._rest or (None, None)
        if self.query.is_sliced or self.query.is_empty() or (self.query.where and self.query.where != where):
            return None
        kept: int = Repository.objects.aggregate(kept=models.Sum("archive_count"))["kept"] or 0
        return kept - (rest.count() if rest is not None and self.query.where else 0)

    def _clone(self) -> Self:
        clone: Self = super()._clone()  # type: ignore[misc]  # Django's own, which its stubs leave out
        clone._rest = self._rest
        return clone


class Archive(models.Model):
    """An archive that we saw being made; `borg_id` says which, whatever its name."""

    repository = models.ForeignKey(Repository, models.PROTECT, related_name="archives")
    server = models.ForeignKey(Server, models.PROTECT, related_name="archives")
    plan = models.ForeignKey(Plan, models.SET_NULL, null=True, related_name="archives")
    job = models.ForeignKey("jobs.Job", models.SET_NULL, null=True, related_name="archives")
    name = models.CharField(_("name"), max_length=200)
    borg_id = models.CharField(max_length=64)
    start = models.DateTimeField(_("start"))  # as borg on the server says
    taken_at = models.DateTimeField(default=timezone.now)  # the same by our own clock, which no server can set
    end = models.DateTimeField(_("end"))
    duration = models.FloatField(help_text="Seconds.")
    original_bytes = models.BigIntegerField()
    compressed_bytes = models.BigIntegerField()
    deduplicated_bytes = models.BigIntegerField()  # what it added to the repository
    files = models.BigIntegerField()
    warnings = models.PositiveIntegerField(default=0)
    command_line = models.TextField(blank=True)
    suspicion = models.TextField(blank=True)  # why it may not be what it should be; "": nothing speaks against it
    # For lists of hundreds of thousands: what can be filtered has an index.
    is_suspicious = models.GeneratedField(
        expression=models.Case(models.When(suspicion="", then=False), default=True),
        output_field=models.BooleanField(), db_persist=True,
    )  # fmt: skip
    name_lower = models.GeneratedField(
        expression=Lower("name"), output_field=models.CharField(max_length=200), db_persist=True
    )
    quarantine = models.TextField(blank=True)  # why we do not believe that it is ours; retention leaves it out
    vanished_at = models.DateTimeField(null=True)  # when borg's list did not have it any more, without our doing
    comment = models.TextField(_("comment"), blank=True)
    pinned = models.BooleanField(_("pinned"), default=False)
    indexed_at = models.DateTimeField(null=True)  # when its listing was read into the catalog
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ArchiveQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["-start", "-id"]
        verbose_name = _("archive")
        verbose_name_plural = _("archives")
        constraints = [models.UniqueConstraint(fields=["repository", "borg_id"], name="archive_in_repository")]
        indexes = [
            models.Index(fields=["-start", "-id"], name="archive_newest"),
            *(
                models.Index(fields=[name, "-start", "-id"], name=f"archive_newest_by_{name.removeprefix('is_')}")
                for name in ("server", "plan", "repository", "pinned", "is_suspicious")
            ),
            models.Index(fields=["name_lower", "start"], name="archive_by_name"),
            models.Index(fields=["plan", "-taken_at"], name="archive_by_plan_taken"),
            # What the archives of the last days added: summed up of tens of thousands, without their long rows.
            models.Index(fields=["start", "server", "deduplicated_bytes"], name="archive_growth"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return page_of("archive", self.pk)


class Mount(models.Model):
    """An archive that is mounted on a worker's machine, or is about to be; the row goes when the mount does."""

    archive = models.OneToOneField(Archive, models.SET_NULL, null=True, related_name="mount")
    job = models.ForeignKey("jobs.Job", models.SET_NULL, null=True, related_name="+")
    place = models.CharField(max_length=40)  # whose workers can unmount it
    machine = models.CharField(_("machine"), max_length=200)
    path = models.CharField(_("path"), max_length=500)  # there
    mounted_at = models.DateTimeField(null=True)  # None: not yet
    expires_at = models.DateTimeField(_("expires"))
    created_at = models.DateTimeField(auto_now_add=True)

    objects = VisibleQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["-id"]
        verbose_name = _("mount")
        verbose_name_plural = _("mounts")

    def __str__(self) -> str:
        return f"{self.machine}:{self.path}"

    def get_absolute_url(self) -> str:
        return self.archive.get_absolute_url() if self.archive else reverse("archives")


class RestoreTest(models.Model):
    """Evidence that files of an archive could be restored, or not; it outlives the archive, the plan and the server."""

    plan = models.ForeignKey(Plan, models.SET_NULL, null=True, related_name="restore_tests")
    server = models.ForeignKey(Server, models.SET_NULL, null=True, related_name="restore_tests")
    archive = models.ForeignKey(Archive, models.SET_NULL, null=True, related_name="restore_tests")
    job = models.ForeignKey("jobs.Job", models.SET_NULL, null=True, related_name="restore_tests")
    name = models.CharField(_("archive"), max_length=200)  # as the archive was called
    at = models.DateTimeField(_("at"), default=timezone.now)
    held = models.BooleanField(_("held"))
    failure = models.TextField(blank=True, default="")  # why it did not hold
    everything = models.BooleanField(default=False)  # False: a sample
    files = models.BigIntegerField(_("files"))
    bytes = models.BigIntegerField(_("bytes"))
    seconds = models.FloatField(_("seconds"))  # that the extraction took
    # Exactly as it was signed: canonical JSON; the signature and the key are hexadecimal, Ed25519.
    evidence = models.TextField()
    signature = models.CharField(max_length=128)
    public_key = models.CharField(max_length=64)

    objects = VisibleQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["-at", "-id"]
        verbose_name = _("restore test")
        verbose_name_plural = _("restore tests")
        indexes = [
            models.Index(fields=["-at", "-id"], name="restore_test_newest"),
            models.Index(fields=["plan", "-at", "-id"], name="restore_test_newest_by_plan"),
            models.Index(fields=["server", "-at", "-id"], name="restore_test_newest_by_server"),
        ]

    def __str__(self) -> str:
        return f"{self.name}, {self.at:%Y-%m-%d %H:%M}"

    def get_absolute_url(self) -> str:
        return page_of("proof", self.pk)

    @property
    def bytes_per_second(self) -> float | None:
        return self.bytes / self.seconds if self.seconds else None


def archive_prefix(plan: Plan) -> str:
    """With what the names of a plan's archives begin; only characters that borg and shells take."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{plan.server.name}-{plan.name}")


class StorageDay(models.Model):
    """What a pool held at the end of a day (of today: so far), for how it grows; kept by backups/growth.py."""

    pool = models.ForeignKey(StoragePool, models.CASCADE, related_name="days")
    day = models.DateField()  # in UTC
    original_bytes = models.BigIntegerField(default=0)  # the sums of its repositories
    compressed_bytes = models.BigIntegerField(default=0)
    deduplicated_bytes = models.BigIntegerField(default=0)
    used_bytes = models.BigIntegerField(null=True)  # of its disk, whoever used it; None: it does not tell

    class Meta:
        default_permissions = ()
        ordering = ["day", "pool"]
        constraints = [models.UniqueConstraint(fields=["pool", "day"], name="storage_day_of_pool")]
        indexes = [models.Index(fields=["day"], name="storage_day_by_day")]

    def __str__(self) -> str:
        return f"{self.pool_id} {self.day}"


class BackupHour(models.Model):
    """How the backups that were asked for in one hour ended, all servers together: for rates over many days.

    Kept by RunBackup.ended (backups/tally.py), so that nobody counts a million jobs.
    """

    began_at = models.DateTimeField(unique=True)
    completed = models.PositiveIntegerField(default=0)
    suspicious = models.PositiveIntegerField(default=0)  # of the completed
    failed = models.PositiveIntegerField(default=0)
    cancelled = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ()
        ordering = ["began_at"]

    def __str__(self) -> str:
        return f"{self.began_at:%Y-%m-%d %H}:00"
