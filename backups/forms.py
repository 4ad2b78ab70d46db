import re
from datetime import datetime, time
from itertools import count, islice
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext_lazy as _

from accounts.fields import TimeZoneField
from accounts.throttle import refuse_another
from backups import schedule
from backups.borg.results import Unreadable, parse_key
from backups.models import (
    Plan,
    Repository,
    RetentionPolicy,
    Source,
    StoragePool,
    validate_no_dots,
    validate_pool_path,
)
from backups.periodic import reschedule
from backups.proposal import Proposal
from backups.schedule import EVERY_HOURS, LAST_DAY, InvalidSchedule, Plain, Repeat, Schedule
from backups.sources.base import SourceKind
from backups.sources.files import FilesForm
from jobs.config import config
from servers.models import Server, validate_address, validate_name, validate_user_name

ALREADY_THERE = _("A storage pool is there already.")
LIES_THERE = _("Repositories lie there: their servers would take them for strangers elsewhere.")
PROOF = ("proof_days", "proof_files")
LONGEST_START = 54  # characters of a name that get a number; names have 60


class PoolForm(forms.ModelForm[StoragePool]):
    """A folder on a worker's machine."""

    PLACE: ClassVar[tuple[str, ...]] = ("path",)  # what no pool with repositories may change

    class Meta:
        model = StoragePool
        fields = ["name", "path", "place"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if len(settings.WORKER_PLACES) == 1:
            del self.fields["place"]

    def clean_place(self) -> str:
        place: str = self.cleaned_data["place"]
        if place not in settings.WORKER_PLACES:
            raise ValidationError(_("WORKER_PLACES does not name “%(place)s”."), params={"place": place})
        return place

    def clean_path(self) -> str:
        path: str = self.cleaned_data["path"].rstrip("/") or "/"
        return path

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.instance.pk and self.instance.repositories.exists():
            before = StoragePool.objects.get(pk=self.instance.pk)
            for name in self.PLACE:
                if name in self.cleaned_data and self.cleaned_data[name] != getattr(before, name):
                    self.add_error(name, LIES_THERE)
        here = StoragePool(pk=self.instance.pk, **{name: self.cleaned_data.get(name) for name in self.PLACE})
        if not self.errors and here.same_place().exists():
            self.add_error("path", ALREADY_THERE)
        return cleaned

    def save(self, commit: bool = True) -> StoragePool:
        if self.instance.place not in settings.WORKER_PLACES:
            self.instance.place = settings.WORKER_PLACES[0]
        return super().save(commit)


class AccountForm(PoolForm):
    """A folder at an SSH account."""

    PLACE = ("address", "port", "username", "path")

    address = forms.CharField(
        label=_("Address"), max_length=253, validators=[validate_address], help_text=_("A host name or an IP address.")
    )
    username = forms.CharField(label=_("SSH user"), max_length=64, validators=[validate_user_name])

    class Meta(PoolForm.Meta):
        fields = ["name", "address", "port", "username", "path", "borg_command", "keys_by_hand", "place"]
        help_texts = {
            "path": _("A folder there, as /srv/borg; from the account's own folder with a dot, as ./borg."),
        }

    def clean(self) -> dict[str, Any] | None:
        if self.instance.pk and {"address", "port"} & set(self.changed_data):
            # What was shown at the old address says nothing about the new one; what was confirmed still holds.
            self.instance.host_key_seen = ""
        return super().clean()


class RepositoryForm(forms.ModelForm[Repository]):
    class Meta:
        model = Repository
        fields = ["name", "server", "pool"]
        help_texts = {
            "name": _("Also the name of its folder in the storage pool."),
            "server": _("Whose archives it will hold; one server each."),
        }


class RepositoryCareForm(forms.ModelForm[Repository]):
    """What may be changed of a repository that exists."""

    class Meta:
        model = Repository
        fields = ["check_days", "verify_days"]


class SourceForm(forms.ModelForm[Source]):
    """A source of any kind: its parameters are validated by the kind's own form."""

    class Meta:
        model = Source
        fields = ["name", "server", "kind"]

    def __init__(self, data: dict[str, Any] | None = None, *, parameters: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        self._parameters = parameters

    def clean_kind(self) -> str:
        kind: str = self.cleaned_data["kind"]
        if kind not in SourceKind.registry:
            raise ValidationError(_("There is no kind of source “%(kind)s”."), params={"kind": kind})
        return kind

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if kind := SourceKind.registry.get(self.cleaned_data.get("kind", "")):
            form = kind.form(self._parameters if isinstance(self._parameters, dict) else {})
            if form.is_valid():
                self.instance.parameters = form.cleaned_data
            else:
                self.parameter_errors = form.errors
                raise ValidationError(_("The parameters of the source are not right."), code="parameters")
        return cleaned


class PlanForm(forms.ModelForm[Plan]):
    """A plan with its files on one page; the source and, if wanted, the repository are made along."""

    new_repository_in = forms.ModelChoiceField(
        StoragePool.objects.none(),
        label=_("Make a repository in"),
        required=False,
        empty_label=_("No, use the one above"),
        help_text=_("A new one for this server, with a passphrase and a key of its own."),
    )

    class Meta:
        model = Plan
        fields = [
            "name", "repository", "compression", "upload_kib_per_second", "retention", *PROOF, "enabled",
        ]  # fmt: skip

    def __init__(self, *args: Any, server: Server, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server = server
        self.instance.server = server
        repository = self.fields["repository"]
        assert isinstance(repository, forms.ModelChoiceField)
        repository.queryset = Repository.objects.filter(server=server)
        repository.required = False
        repository.empty_label = _("None yet")
        pools = self.fields["new_repository_in"]
        assert isinstance(pools, forms.ModelChoiceField)
        pools.queryset = StoragePool.objects.all()
        for name in PROOF:
            self.fields[name].required = False  # empty: as it was
        if self.instance.pk is None:
            for name, value in usual().items():
                setattr(self.instance, name, value)
        if not self.is_bound and self.instance.pk is None:
            self._suggest(repository, pools)

    def clean_proof_days(self) -> int:
        days: int | None = self.cleaned_data["proof_days"]
        return self.instance.proof_days if days is None else days

    def clean_proof_files(self) -> int:
        files: int | None = self.cleaned_data["proof_files"]
        return self.instance.proof_files if files is None else files

    def _suggest(self, repository: Any, pools: Any) -> None:
        self.initial.setdefault("name", "files")
        if only := repository.queryset.first():
            self.initial.setdefault("repository", only)
        else:
            self.initial.setdefault("new_repository_in", pools.queryset.first())
        policies = RetentionPolicy.objects.all()
        self.initial.setdefault("retention", policies.filter(name=config.PLAN_RETENTION).first() or policies.first())
        for name, value in usual().items():
            self.initial.setdefault(name, value)

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        repository, pool = self.cleaned_data.get("repository"), self.cleaned_data.get("new_repository_in")
        if pool and repository:
            self.add_error("new_repository_in", _("Choose one repository: the existing one, or a new one."))
        elif not pool and not repository and "repository" not in self.errors:
            self.add_error("repository", _("Choose a repository, or a storage pool to make one in."))
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        # Django leaves out fields that are not on the form; the name is unique on the server all the same.
        exclusions: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return exclusions - {"server"}


class ScheduleForm(forms.Form):
    """When a plan runs, in plain words or as a cron expression. Which fields count depends on `repeat`."""

    COUNTS = {
        Repeat.HOURLY: ["minute"],
        Repeat.HOURS: ["hours", "minute"],
        Repeat.DAILY: ["at"],
        Repeat.WEEKLY: ["weekday", "at"],
        Repeat.MONTHLY: ["day", "at"],
        Repeat.CRON: ["cron"],
    }

    repeat = forms.ChoiceField(
        label=_("Runs"),
        required=False,
        choices=[
            (Repeat.NEVER, _("only by hand")), (Repeat.HOURLY, _("every hour")), (Repeat.HOURS, _("every few hours")),
            (Repeat.DAILY, _("daily")), (Repeat.WEEKLY, _("weekly")), (Repeat.MONTHLY, _("monthly")),
            (Repeat.CRON, _("as a cron expression says")),
        ],
    )  # fmt: skip
    hours = forms.TypedChoiceField(
        label=_("Every (hours)"), required=False, coerce=int, choices=[(hours, hours) for hours in EVERY_HOURS]
    )
    weekday = forms.TypedChoiceField(
        label=_("On"), required=False, coerce=int, choices=[((day + 1) % 7, name) for day, name in WEEKDAYS.items()]
    )
    day = forms.ChoiceField(
        label=_("On day"),
        required=False,
        choices=[*((str(day), day) for day in range(1, 29)), (LAST_DAY, _("the last of the month"))],
    )
    at = forms.TimeField(label=_("At"), required=False, widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"))
    minute = forms.IntegerField(label=_("At minute"), required=False, min_value=0, max_value=59)
    cron = forms.CharField(
        label=_("Cron expression"),
        required=False,
        max_length=100,
        help_text=_("Five fields: minute, hour, day of the month, month, day of the week. As “0 2 * * mon-fri”."),
    )
    time_zone = TimeZoneField(label=_("Time zone"), required=False)
    blackout = forms.CharField(
        label=_("Not during"),
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "mon-fri 08:00-18:00"}),
        help_text=_("Windows in which no run starts, one per line. What would start within one starts at its end."),
    )
    spread_seconds = forms.IntegerField(
        label=_("Spread (seconds)"),
        required=False,
        min_value=0,
        max_value=schedule.MOST_SPREAD_SECONDS,
        help_text=_("Each plan starts its own share of this later, so that not all start at once."),
    )

    def __init__(self, data: Any = None, *, plan: Plan) -> None:
        super().__init__(data, prefix="when", initial=self._initial(plan))
        self.plan = plan

    @staticmethod
    def _initial(plan: Plan) -> dict[str, Any]:
        plain = Plain.read(plan.schedule)
        repeat = plain.repeat if plain else Repeat.CRON if plan.schedule else Repeat.NEVER
        shown = plain or Plain(repeat, hour=2)
        return {
            "repeat": repeat, "hours": shown.hours, "weekday": shown.weekday, "day": shown.day, "minute": shown.minute,
            "at": time(shown.hour, shown.minute), "cron": plan.schedule, "time_zone": plan.time_zone,
            "blackout": plan.blackout, "spread_seconds": plan.spread_seconds,
        }  # fmt: skip

    def clean_blackout(self) -> str:
        blackout: str = self.cleaned_data["blackout"]
        try:
            schedule.windows_of(blackout)
        except InvalidSchedule as error:
            raise ValidationError(str(error)) from error
        return blackout

    def clean(self) -> dict[str, Any]:
        repeat = Repeat(self.cleaned_data.get("repeat") or Repeat.NEVER)
        counts = self.COUNTS.get(repeat, [])
        for name in {name for names in self.COUNTS.values() for name in names} - set(counts):
            self.errors.pop(name, None)  # nobody sees them
        for name in counts:
            if name not in self.errors and self.cleaned_data.get(name) in (None, ""):
                self.add_error(name, self.fields[name].error_messages["required"])
        if repeat == Repeat.CRON and "cron" not in self.errors:
            try:
                self.cleaned_data["cron"] = schedule.checked_cron(self.cleaned_data["cron"])
            except InvalidSchedule as error:
                self.add_error("cron", str(error))
        return self.cleaned_data

    @property
    def values(self) -> dict[str, Any]:
        """The fields of a plan. What was not sent stays as it was."""
        if not self.is_bound:
            return {name: getattr(self.plan, name) for name in schedule.FIELDS}
        sent = self.cleaned_data
        spread = sent["spread_seconds"]
        return {
            "schedule": self._cron(),
            "time_zone": sent["time_zone"] or self.plan.time_zone,
            "blackout": sent["blackout"],
            "spread_seconds": self.plan.spread_seconds if spread is None else spread,
        }

    def _cron(self) -> str:
        sent = self.cleaned_data
        repeat = Repeat(sent["repeat"] or Repeat.NEVER)
        if repeat in (Repeat.NEVER, Repeat.CRON):
            return str(sent["cron"]) if repeat == Repeat.CRON else ""
        at: time = sent.get("at") or time()
        minute = sent["minute"] if "minute" in self.COUNTS[repeat] else at.minute
        given = {name: sent[name] for name in ("hours", "weekday", "day") if name in self.COUNTS[repeat]}
        return Plain(repeat, minute=minute, hour=at.hour, **given).cron

    def runs(self) -> list[datetime]:
        """The next runs, before any spread."""
        values = self.values
        if not values["schedule"]:
            return []
        times = Schedule.parse(values["schedule"], values["time_zone"], values["blackout"])
        return list(islice(times.runs(timezone.now()), schedule.RUNS_SHOWN))


class PlanWithFiles:
    """The forms of the plan's page, PlanForm, FilesForm and ScheduleForm, as one."""

    def __init__(
        self, server: Server, *, plan: Plan | None = None, data: Any = None, proposal: Proposal | None = None
    ) -> None:
        source = plan.sources.filter(kind="files").first() if plan else None
        self.source = source
        self.plan = PlanForm(data, server=server, instance=plan, initial=proposal.of_plan if proposal else None)
        files = source.parameters if source else proposal.of_files if proposal else None
        self.files = FilesForm(data, initial=files, prefix="files")
        self.when = ScheduleForm(data, plan=plan or suggested_plan())

    @property
    def has_errors(self) -> bool:
        return bool(self.plan.errors or self.files.errors or self.when.errors)

    def is_valid(self) -> bool:
        return all([self.plan.is_valid(), self.files.is_valid(), self.when.is_valid()])

    @transaction.atomic
    def save(self) -> tuple[Plan, Repository | None]:
        """Store plan and source; returns the plan, and the repository that has still to be made."""
        server, pool = self.plan.server, self.plan.cleaned_data["new_repository_in"]
        repository = None
        if pool:
            repository = Repository.objects.create(name=free_name(server.name, pool), pool=pool, server=server)
            self.plan.instance.repository = repository
        plan = self.plan.instance
        for name, value in self.when.values.items():
            setattr(plan, name, value)
        # Of a plan that exists only what is on the page: the scheduler and the workers keep the rest.
        plan.save(update_fields=[*self.plan.Meta.fields, *schedule.FIELDS] if plan.pk else None)
        reschedule(plan)
        self.source = self.source or Source(server=server, name=free_source_name(plan), kind="files")
        self.source.parameters = self.files.cleaned_data
        self.source.save()
        plan.sources.add(self.source)
        return plan, repository


def suggested_plan() -> Plan:
    """When a new one runs, as its form shows it: by the settings, and where the person is unless they say where."""
    return Plan(schedule=config.PLAN_SCHEDULE, time_zone=config.PLAN_TIME_ZONE or timezone.get_current_timezone_name())


def usual() -> dict[str, Any]:
    """What the settings say of a new plan whose maker says nothing else, on the page and over the API.

    Neither when it runs nor what is deleted: over the API nothing happens by itself that nobody has asked for.
    """
    return {
        "compression": config.PLAN_COMPRESSION, "proof_days": config.PLAN_PROOF_DAYS,
        "proof_files": config.PLAN_PROOF_FILES,
    }  # fmt: skip


def free_name(wish: str, pool: StoragePool) -> str:
    """A name for a repository in `pool` that no other has."""
    return first_free(wish, pool.repositories.all())


def free_source_name(plan: Plan) -> str:
    return first_free(plan.name, plan.server.sources.all())


def first_free(wish: str, others: QuerySet[Any]) -> str:
    """`wish`, or `wish-2` and so on; not longer than a name may be, and different also where capitals do not count."""
    start = wish[:LONGEST_START]
    taken = {name.lower() for name in others.filter(name__istartswith=start).values_list("name", flat=True)}
    names = (wish if number == 1 else f"{start}-{number}" for number in count(1))
    return next(name for name in names if name.lower() not in taken)


class KitForm(forms.Form):
    """Who takes out a recovery kit says again who they are, and with what its file is encrypted."""

    password = forms.CharField(
        label=_("Your password"),
        strip=False,
        max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
        help_text=_("The one with which you log in. Who has the kit can read everything in the repository."),
    )
    file_passphrase = forms.CharField(
        label=_("Passphrase for the file"),
        required=False,
        strip=False,
        min_length=16,
        max_length=512,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_(
            "The file is encrypted with it, so that it can lie anywhere: at least 16 characters, five words say. "
            "phpBorg forgets it at once: keep it where the file is not. Empty: the page to print alone."
        ),
    )
    file_passphrase_again = forms.CharField(
        label=_("Passphrase for the file again"),
        required=False,
        strip=False,
        max_length=512,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, data: Any = None, *, request: HttpRequest) -> None:
        super().__init__(data)
        self._request = request

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        refuse_another(password, self._request)
        return password

    def clean_file_passphrase(self) -> str:
        passphrase: str = self.cleaned_data["file_passphrase"]
        if passphrase:
            validate_password(passphrase)
            if not passphrase.isprintable() or passphrase != passphrase.strip():
                raise ValidationError(_("It must not begin or end with a space, nor have control characters in it."))
        return passphrase

    def clean(self) -> dict[str, Any]:
        chosen = self.cleaned_data.get("file_passphrase")
        if chosen is not None and chosen != self.cleaned_data.get("file_passphrase_again"):
            self.add_error("file_passphrase_again", _("These two are not the same."))
        if chosen and chosen == self.cleaned_data.get("password"):
            self.add_error("file_passphrase", _("Not your password: the file outlives it, and lies elsewhere."))
        return self.cleaned_data


class SecretText(forms.Textarea):
    """Several lines that never come back to the page, not even with a form that was not right."""

    def format_value(self, value: Any) -> str:
        return ""


class ImportForm(forms.Form):
    """A repository that exists, for the page, the API and the command alike."""

    server = forms.ModelChoiceField(
        Server.objects.order_by("name"), label=_("Server"), help_text=_("Whose archives it holds; one server each.")
    )
    pool = forms.ModelChoiceField(
        StoragePool.objects.order_by("name"),
        label=_("Storage pool"),
        required=False,
        empty_label=_("None yet: the folder below"),
        help_text=_("The folder in which the repository's own folder lies."),
    )
    folder = forms.CharField(
        label=_("Or a folder"),
        required=False,
        max_length=200,
        validators=[validate_pool_path, validate_no_dots],
        help_text=_("On the worker's machine, as /srv/borg. It becomes a storage pool."),
    )
    name = forms.CharField(
        label=_("Name"),
        max_length=60,
        validators=[validate_name],
        help_text=_("Of the repository's own folder in there; it keeps this name."),
    )
    passphrase = forms.CharField(
        label=_("Passphrase"),
        required=False,
        strip=False,
        max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=_("Kept encrypted, and deleted if the import fails. Empty: it has none."),
    )
    key = forms.CharField(
        label=_("Key file"),
        required=False,
        max_length=10_000,
        widget=SecretText(attrs={"rows": 3, "spellcheck": "false", "autocomplete": "off"}),
        help_text=_("Only if the repository does not hold its key: what `borg key export` prints. Kept encrypted."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if len(settings.WORKER_PLACES) > 1:
            del self.fields["folder"]  # a pool must say whose workers reach it

    def clean_key(self) -> str:
        text: str = self.cleaned_data["key"]
        try:
            return parse_key(text.replace("\r", "").encode()) if text.strip() else ""
        except Unreadable as error:
            message = _("This is no key file: it begins with BORG_KEY and the repository's id.")
            raise ValidationError(message) from error

    def clean(self) -> dict[str, Any]:
        pool, folder = self.cleaned_data.get("pool"), self.cleaned_data.get("folder", "").rstrip("/")
        if pool and folder:
            self.add_error("folder", _("Choose one: the storage pool, or a folder."))
        elif not pool and not folder and not self.errors:
            self.add_error("pool", _("Choose the storage pool, or name the folder."))
        return self.cleaned_data

    @property
    def chosen(self) -> dict[str, Any]:
        """For ImportRepository.begin; the pool is a new one if the folder was none yet."""
        sent = self.cleaned_data
        pool = sent["pool"]
        if pool is None:
            path = sent["folder"].rstrip("/")
            pool = StoragePool.objects.filter(path=path).first()
            pool = pool or StoragePool(name=free_pool_name(path), path=path, place=settings.WORKER_PLACES[0])
        return {name: sent[name] for name in ("server", "name", "passphrase", "key")} | {"pool": pool}


def free_pool_name(path: str) -> str:
    """Named as its folder, as far as a name can be."""
    wish = re.sub(r"[^A-Za-z0-9._-]", "-", path.rpartition("/")[2]).lstrip("._-")
    return first_free(wish[:60] or "pool", StoragePool.objects.all())
