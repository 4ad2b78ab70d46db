from itertools import count
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from backups.models import Plan, Repository, RetentionPolicy, Source, StoragePool
from backups.sources.base import SourceKind
from backups.sources.files import FilesForm
from servers.models import Server

LONGEST_START = 54  # characters of a name that get a number; names have 60


class PoolForm(forms.ModelForm[StoragePool]):
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
        moved = self.instance.pk and path != StoragePool.objects.get(pk=self.instance.pk).path
        if moved and self.instance.repositories.exists():
            raise ValidationError(_("Repositories lie there: their servers would take them for strangers elsewhere."))
        return path

    def save(self, commit: bool = True) -> StoragePool:
        if self.instance.place not in settings.WORKER_PLACES:
            self.instance.place = settings.WORKER_PLACES[0]
        return super().save(commit)


class RepositoryForm(forms.ModelForm[Repository]):
    class Meta:
        model = Repository
        fields = ["name", "server", "pool"]
        help_texts = {
            "name": _("Also the name of its folder in the storage pool."),
            "server": _("Whose archives it will hold; one server each."),
        }


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
        fields = ["name", "repository", "compression", "upload_kib_per_second", "retention", "enabled"]

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
        if not self.is_bound and self.instance.pk is None:
            self._suggest(repository, pools)

    def _suggest(self, repository: Any, pools: Any) -> None:
        self.initial.setdefault("name", "files")
        if only := repository.queryset.first():
            self.initial.setdefault("repository", only)
        else:
            self.initial.setdefault("new_repository_in", pools.queryset.first())
        self.initial.setdefault("retention", RetentionPolicy.objects.first())

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


class PlanWithFiles:
    """The two forms of the plan's page, PlanForm and FilesForm, as one."""

    def __init__(self, server: Server, *, plan: Plan | None = None, data: Any = None) -> None:
        source = plan.sources.filter(kind="files").first() if plan else None
        self.source = source
        self.plan = PlanForm(data, server=server, instance=plan)
        self.files = FilesForm(data, initial=source.parameters if source else None, prefix="files")

    @property
    def has_errors(self) -> bool:
        return bool(self.plan.errors or self.files.errors)

    def is_valid(self) -> bool:
        return all([self.plan.is_valid(), self.files.is_valid()])

    @transaction.atomic
    def save(self) -> tuple[Plan, Repository | None]:
        """Store plan and source; returns the plan, and the repository that has still to be made."""
        server, pool = self.plan.server, self.plan.cleaned_data["new_repository_in"]
        repository = None
        if pool:
            repository = Repository.objects.create(name=free_name(server.name, pool), pool=pool, server=server)
            self.plan.instance.repository = repository
        plan = self.plan.save()
        source = self.source or Source(server=server, name=free_source_name(plan), kind="files")
        source.parameters = self.files.cleaned_data
        source.save()
        plan.sources.add(source)
        return plan, repository


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
