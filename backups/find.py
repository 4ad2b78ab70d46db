"""Find a file: the listings of all archives that somebody may see, and what our record knows of what is found."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from django import forms
from django.contrib.auth.models import AnonymousUser
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.query import LARGEST, WholeField
from backups.catalog.finding import LEAST_LETTERS, Hit, Pattern, Place, Version, find
from backups.models import Archive, Repository

SHOWN, MOST_SHOWN = 50, 100


@dataclass(frozen=True)
class Row:
    """One version, and the archives of our record in which it is first and last."""

    version: Version
    first: Archive
    last: Archive
    differs: bool | None  # from the version before it in its content; None: there is none before

    @property
    def entry(self) -> int:
        return self.version.item.id


@dataclass(frozen=True)
class File:
    """A path of a repository, the newest version first."""

    repository: Repository
    text: str
    rows: list[Row]

    @property
    def newest(self) -> Row:
        return self.rows[0]


@dataclass(frozen=True)
class Page:
    files: list[File]
    next: str | None  # where to go on
    unread: int  # repositories without a listing


class FindForm(forms.Form):
    """What somebody looks for."""

    search = forms.CharField(label=_("Name, part of a path, or pattern"), max_length=1000)
    server = WholeField(label=_("Server"), required=False, min_value=1, max_value=LARGEST)
    before = forms.DateTimeField(label=_("Before"), required=False)
    cursor = forms.CharField(required=False, max_length=100)

    def clean_search(self) -> Pattern:
        try:
            return Pattern(self.cleaned_data["search"])
        except ValueError:
            sentence = _("Say at least %(least)d letters of the name.") % {"least": LEAST_LETTERS}
            raise forms.ValidationError(sentence) from None

    def clean_cursor(self) -> Place:
        try:
            return as_place(self.cleaned_data["cursor"]) if self.cleaned_data["cursor"] else Place()
        except ValueError:
            raise forms.ValidationError(_("This is no cursor of this list.")) from None


def look(form: FindForm, user: User | AnonymousUser, *, limit: int = SHOWN) -> Page:
    """A page of what `user` may see and a valid `form` asks for, in three queries however much there is."""
    asked = form.cleaned_data
    repositories = Repository.objects.for_user(user).select_related("server")
    if asked["server"]:
        repositories = repositories.filter(server=asked["server"])
    numbers = repositories.order_by().values_list("pk", flat=True)
    found = find(asked["search"], numbers, since=asked["cursor"], before=asked["before"], limit=limit)
    known = _archives(found.hits, user)
    of_them = repositories.in_bulk({hit.repository for hit in found.hits})
    files = [
        File(of_them[hit.repository], hit.text, rows)
        for hit in found.hits
        if hit.repository in of_them and (rows := _rows(hit, known))
    ]
    return Page(files, as_text(found.goes_on) if found.goes_on else None, found.unread)


def _archives(hits: list[Hit], user: User | AnonymousUser) -> dict[tuple[int, str], Archive]:
    """Those that the versions begin and end with, as far as our record (still) has them."""
    ids = {taken.borg_id for hit in hits for version in hit.versions for taken in (version.first, version.last)}
    repositories = {hit.repository for hit in hits}
    archives = Archive.objects.for_user(user).filter(repository__in=repositories, borg_id__in=ids)
    return {(archive.repository_id, archive.borg_id): archive for archive in archives.order_by()}


def _rows(hit: Hit, known: dict[tuple[int, str], Archive]) -> list[Row]:
    rows: list[Row] = []
    for number, version in enumerate(hit.versions):
        first, last = (known.get((hit.repository, taken.borg_id)) for taken in (version.first, version.last))
        if first is None or last is None:
            continue
        older = hit.versions[number + 1].item if number + 1 < len(hit.versions) else None
        item = version.item
        same = older and (older.kind, older.size, older.modified_at, older.link) == (
            item.kind, item.size, item.modified_at, item.link,
        )  # fmt: skip
        rows.append(Row(version, first, last, None if older is None else not same))
    return rows


# --- Where to go on, as the links of a page say it ---------------------------------------------


def as_text(place: Place) -> str:
    return base64.urlsafe_b64encode(f"{place.repository}~{place.path}".encode()).decode().rstrip("=")


def as_place(text: str) -> Place:
    """Raises ValueError for what no page said."""
    repository, path = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split("~")
    place = Place(int(repository), int(path))
    if not (0 <= place.repository < 2**63 and 0 <= place.path < 2**63):
        raise ValueError
    return place
