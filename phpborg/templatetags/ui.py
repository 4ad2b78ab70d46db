"""What templates need beyond Django: units, times, icons, form fields. Loaded in every template."""

import html
from collections.abc import Callable
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from django import template
from django.conf import settings
from django.forms import BoundField, CheckboxInput, RadioSelect, Select, Textarea, Widget
from django.template.loader import get_template
from django.templatetags.static import static
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _

from accounts.access import ROLE_LABELS, Permission, can
from accounts.models import AuditEntry
from backups import schedule
from backups.health import Mark
from backups.stats import Outcome
from jobs.models import Job
from jobs.runner import JobRunner
from phpborg import actions

register = template.Library()

UNITS = (
    gettext_lazy("B"), gettext_lazy("kB"), gettext_lazy("MB"), gettext_lazy("GB"), gettext_lazy("TB"),
    gettext_lazy("PB"),
)  # fmt: skip
STEP = 1000
SPANS = ((86_400, gettext_lazy("d")), (3_600, gettext_lazy("h")), (60, gettext_lazy("min")), (1, gettext_lazy("s")))


# --- Numbers: one style everywhere ------------------------------------------------------------


@register.filter
def size(value: float | None) -> str:
    """Bytes as "1.2 GB", in French "1,2 Go": decimal units, one digit after the point below 100."""
    if value is None:
        return "–"
    number, unit = float(value), 0
    while abs(number) >= STEP and unit < len(UNITS) - 1:
        number, unit = number / STEP, unit + 1
    digits = 0 if unit == 0 or abs(number) >= 100 else 1
    return f"{decimal(number, digits)} {_style(get_language())[1][unit]}"


def decimal(number: float, digits: int = 0) -> str:
    """In the person's language, its thousands not apart: what Django has for it takes ten times as long."""
    shown = f"{round(number, digits):.{digits}f}"
    return shown.replace(".", _style(get_language())[0]) if digits else shown


@cache
def _style(language: str | None) -> tuple[str, tuple[str, ...]]:
    """What that language, which is the person's now, has instead of the point; and of bytes."""
    return str(formats.get_format("DECIMAL_SEPARATOR", language)), tuple(map(str, UNITS))


@register.simple_tag
def byte_units() -> str:
    """For static/charts.js."""
    return " ".join(_style(get_language())[1])


@register.filter
def rate(value: float | None) -> str:
    return f"{size(value)}/s" if value is not None else ""


@register.filter
def count(value: int | None) -> str:
    """A number of things, its thousands apart."""
    if value is None:
        return "–"
    is_short = isinstance(value, int) and 0 <= value < 1000  # as most are; a template's gap is ""
    return str(value) if is_short else formats.number_format(value, 0, force_grouping=True)


@register.filter
def percent(value: float | None) -> str:
    """A share between 0 and 1."""
    return "–" if value is None else f"{decimal(value * 100)} %"


@register.filter
def duration(value: float | None) -> str:
    """Seconds as "3 min 20 s": the two largest units."""
    if value is None:
        return "–"
    if value < 10:
        return _("%(seconds)s s") % {"seconds": decimal(value, 1)}
    rest, parts = int(value), []
    for seconds, unit in SPANS:
        if rest >= seconds:
            parts.append(f"{rest // seconds} {unit}")
            rest %= seconds
    return " ".join(parts[:2])


# --- Times ------------------------------------------------------------------------------------


@register.filter
def ago(value: datetime | None) -> SafeString | str:
    """How long ago, or in how long, with the exact time on hover."""
    if value is None:
        return "–"
    # Not by format_html: a list has two hundred of them, and of these only words of ours could have to be escaped.
    shown = (
        f'<time datetime="{value.isoformat()}" title="{moment(value)}" data-ago>{html.escape(distance(value))}</time>'
    )
    return mark_safe(shown)  # noqa: S308


def distance(value: datetime) -> str:
    seconds = (timezone.now() - value).total_seconds()
    n = int(abs(seconds))
    unit = 0 if n < 60 else 60 if n < 3_600 else 3_600 if n < 48 * 3_600 else 86_400
    return _distance(get_language(), n // unit if unit else 0, unit, is_past=seconds >= 0)


@lru_cache(maxsize=5_000)  # there are few, and a list of servers has three hundred
def _distance(language: str | None, n: int, unit: int, *, is_past: bool) -> str:
    """In that language, which is the person's now: so many of that unit of seconds; 0: less than a minute."""
    if unit == 0:
        return _("just now") if is_past else _("in a moment")
    if unit == 60:
        words = _("%(n)d min ago") if is_past else _("in %(n)d min")
    elif unit == 3_600:
        words = _("%(n)d h ago") if is_past else _("in %(n)d h")
    elif is_past:
        words = ngettext("%(n)d day ago", "%(n)d days ago", n)
    else:
        words = ngettext("in %(n)d day", "in %(n)d days", n)
    return words % {"n": n}


@register.filter
def moment(value: datetime | str | None) -> str:
    """A date and a time to the second, in the person's zone."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return timezone.localtime(value).strftime("%Y-%m-%d %H:%M:%S") if value else "–"


@register.filter
def clock(value: datetime) -> str:
    return timezone.localtime(value).strftime("%H:%M:%S")


# --- Icons and components ------------------------------------------------------------------------


@cache
def known_icons() -> frozenset[str]:
    return frozenset((Path(settings.BASE_DIR) / "static" / "icons.txt").read_text().split())


@register.simple_tag
@cache  # a list shows some hundred of them
def icon(name: str, css: str = "") -> SafeString:
    """A Tabler icon out of the sprite; `static/icons.txt` lists which are in it."""
    if name not in known_icons():
        raise template.TemplateSyntaxError(f"static/icons.txt does not name the icon “{name}”.")
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        css, static("vendor/icons.svg"), name,
    )  # fmt: skip


@register.simple_tag
def state(name: str, label: str) -> SafeString:
    """One of the five states with its icon and its word: components/state.html."""
    return _state(name, str(label))


@lru_cache(maxsize=1000)  # there are few words; a list shows fifty of them
def _state(name: str, label: str) -> SafeString:
    return mark_safe(get_template("components/state.html").render({"state": name, "label": label}))  # noqa: S308


@register.simple_tag
def mark_cells(marks: list[Mark]) -> SafeString:
    """The ages of a server's marks, in a row of many; those that are owed say so, and a phone shows the first."""
    look = format_html(
        '<span class="owed">{}<span class="visually-hidden">{}</span></span>', icon("alert-triangle"), _("needs a look")
    )
    shown = [
        f'<td class="text-nowrap{" wide" if number else ""}">{look if mark.is_owed else ""}{ago(mark.at)}</td>'
        for number, mark in enumerate(marks)
    ]
    return mark_safe("".join(shown))  # noqa: S308


@register.simple_tag
def cells(shown_as: str, *values: float) -> SafeString:
    """Of a table that static/charts.js draws: each number as `size`, `count` or `duration` shows it, and as it is."""
    show: Callable[[Any], str] = {"size": size, "count": count, "duration": duration}[shown_as]
    cell = '<td class="num" data-value="{}">{}</td>'
    return mark_safe("".join(cell.format(value, html.escape(show(value))) for value in values))  # noqa: S308


@register.simple_tag(takes_context=True)
def column(context: dict[str, Any], name: str, label: str, css: str = "") -> SafeString:
    """The head of a column by which a list can be ordered (accounts/lists.ordered)."""
    query = context["request"].GET.copy()
    ways = {name: "ascending", f"-{name}": "descending"}
    now = ways.get(query.get("ordering", ""), "none")
    query.pop("page", None)
    query["ordering"] = f"-{name}" if now == "ascending" else name
    arrow = {"ascending": "arrow-up", "descending": "arrow-down"}.get(now)
    return format_html(
        '<th class="{}" aria-sort="{}"><a href="?{}">{}{}</a></th>',
        css, now, query.urlencode(), label, icon(arrow) if arrow else "",
    )  # fmt: skip


@register.simple_tag
def field(bound: BoundField) -> SafeString:
    """A form field with its label, help and errors: components/field.html."""
    kind, css = _look_of(bound.field.widget)
    if bound.errors:
        css += " is-invalid"
    widget = bound.as_widget(attrs={"class": css} if css else {})
    return mark_safe(get_template("components/field.html").render({"field": bound, "kind": kind, "widget": widget}))  # noqa: S308


def _look_of(widget: Widget) -> tuple[str, str]:
    """(what components/field.html makes of it, the CSS class of its input)."""
    match widget:
        case CheckboxInput():
            return "switch", "form-check-input"
        case RadioSelect():  # CheckboxSelectMultiple is one of these
            return "choices", ""
        case Select():
            return "line", "form-select"
        case Textarea():
            return "text", "form-control font-monospace"
    return "line", "form-control"


@register.filter
def may(user: Any, permission: str) -> bool:
    return can(user, Permission(permission))


@register.filter
def state_of(job: Job) -> str:
    """The state, of the five, that a job's row shows."""
    if job.status == Job.Status.COMPLETED:
        suspicious = isinstance(job.result, dict) and job.result.get("suspicion")
        return "attention" if job.warnings or suspicious else "protected"
    return {Job.Status.RUNNING.value: "running", Job.Status.FAILED.value: "at-risk"}.get(job.status, "unknown")


@register.filter
def job_label(job: Job) -> str:
    runner = JobRunner.registry.get(job.type)
    return str(runner.label) if runner else job.type


@register.filter
def job_icon(job: Job) -> str:
    runner = JobRunner.registry.get(job.type)
    return runner.icon if runner else "player-play"


@register.filter
def may_run(user: Any, job_type: str) -> bool:
    runner = JobRunner.registry.get(job_type)
    return runner is not None and can(user, runner.permission)


@register.filter
def status_label(job: Job) -> str:
    """The job's status in a word; a job that ended with something to look at says so."""
    if state_of(job) == "attention":
        return _("with warnings")
    return str(job.get_status_display())


@register.filter
def job_title(job: Job) -> str:
    """As “Backup of web-1, plan files”."""
    label = job_label(job)
    if job.plan:
        return _("%(job)s of %(server)s, plan %(plan)s") % {"job": label, "server": job.server, "plan": job.plan}
    if job.repository:
        return _("%(job)s: %(subject)s") % {"job": label, "subject": job.repository}
    if job.server:
        return _("%(job)s of %(server)s") % {"job": label, "server": job.server}
    return label


@register.filter
def day_words(outcome: Outcome) -> str:
    """As “12 good, 1 failed”."""
    parts = [
        (outcome.good, ngettext("%(n)s good", "%(n)s good", outcome.good)),
        (outcome.suspicious, ngettext("%(n)s suspicious", "%(n)s suspicious", outcome.suspicious)),
        (outcome.failed, ngettext("%(n)s failed", "%(n)s failed", outcome.failed)),
    ]
    return ", ".join(words % {"n": count(number)} for number, words in parts if number) or _("no backup")


@register.filter
def schedule_words(cron: str) -> str:
    return schedule.words(cron)


@register.filter
def role_label(name: str) -> str:
    return str(ROLE_LABELS.get(name, name))


@register.filter
def action_label(action: str) -> str:
    return actions.label_of(action)


@register.simple_tag
def action_choices() -> list[tuple[str, str]]:
    return actions.choices()


@register.filter
def details(entry: AuditEntry) -> list[actions.Line]:
    return actions.lines_of(entry)


PHASES = {
    "connect": gettext_lazy("connect"),
    "prepare": gettext_lazy("prepare"),
    "transfer": gettext_lazy("transfer"),
    "finish": gettext_lazy("finish"),
    "place": gettext_lazy("put in place"),
    "verify": gettext_lazy("verify"),
    "init": gettext_lazy("make"),
    "key": gettext_lazy("put the key aside"),
    "give": gettext_lazy("give the key"),
    "proof": gettext_lazy("prove it"),
    "look": gettext_lazy("look"),
    "archives": gettext_lazy("read the archives"),
}


@register.filter
def phases(job: Job) -> list[dict[str, Any]]:
    """The phases of a job with the seconds that each took; the last one of a running job goes on."""
    marks = job.progress.get("phases", [])
    starts = [datetime.fromisoformat(mark["at"]) for mark in marks]
    ends = [*starts[1:], job.completed_at or timezone.now()][: len(starts)]
    return [
        {
            "label": PHASES.get(mark["name"], mark["name"]),
            "seconds": max(0.0, (end - start).total_seconds()),
            "state": state_of(job) if number == len(marks) and job.status != Job.Status.COMPLETED else "protected",
        }
        for number, (mark, start, end) in enumerate(zip(marks, starts, ends, strict=True), 1)
    ]


@register.filter
def job_facts(job: Job) -> list[dict[str, Any]]:
    """The numbers of a job: from its result when it has one, from its progress before."""
    known = {**job.progress, **(job.result or {})}
    facts: list[dict[str, Any]] = []

    def add(key: str, label: str, show: Callable[[Any], str], note: str = "") -> None:
        if known.get(key) not in (None, ""):
            facts.append({"label": label, "value": show(known[key]), "note": note})

    total = known.get("total") if job.status == Job.Status.RUNNING else None
    add("files", _("Files"), count)
    of = _("of %(total)s") if known.get("exact") else _("of about %(total)s")
    add("original", _("Read"), size, of % {"total": size(total)} if total else "")
    add("compressed", _("Compressed"), size)
    add("deduplicated", _("New in the repository"), size)
    add("entries", _("Entries"), count)
    add("bytes", _("Sent") if job.type == "download" else _("Restored"), size)
    if job.status == Job.Status.RUNNING:
        add("rate", _("Rate"), rate)
        if known.get("rate") and total and known.get("original", 0) < total:
            left = (total - known["original"]) / known["rate"]
            facts.append(
                {"label": _("Left"), "value": duration(left), "note": "" if known.get("exact") else _("about")}
            )
    add("directory", _("Into"), str)
    add("free_bytes", _("Free"), size)
    if not facts:
        facts.append({"label": _("Duration"), "value": duration(job.seconds), "note": ""})
    return facts
