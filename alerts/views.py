from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_filters import FilterSet

from accounts import audit
from accounts.access import Permission, require, signed_in
from accounts.lists import Deep, as_csv, in_batches, is_csv
from accounts.meantime import Meantime
from alerts import texts
from alerts.channels.base import ChannelKind
from alerts.events import EventKind, sentence_of
from alerts.filters import DeliveryFilter, IncidentFilter
from alerts.forms import ChannelForm, RuleForm, TemplateForm
from alerts.messages import sample
from alerts.models import Channel, Delivery, Incident, MailTemplate, Rule
from alerts.sandbox import BadTemplate
from alerts.testing import send_test
from jobs.config import config
from jobs.models import Job
from jobs.runner import Refused

# --- What is wrong ------------------------------------------------------------------------------


@require_GET
@require(Permission.BACKUP_VIEW)
def index(request: HttpRequest) -> HttpResponseBase:
    """What is wrong now, or with ?state=all what was too."""
    everything = request.GET.get("state") == "all"
    incidents = Incident.objects.for_user(request.user).select_related("rule", "server", "plan")
    incidents = incidents if everything else incidents.open()
    found = IncidentFilter(filled_in(request), incidents.order_by("-opened_at", "-id"))
    if is_csv(request):
        return as_csv("alerts", incident_table(fitting(found)))
    page = Deep(fitting(found), 50).get_page(request.GET.get("page"))
    rows = [(each, sentence_of(each.event, each.facts)) for each in page]
    context = {
        "page": page, "rows": rows, "filter": found, "everything": everything, "severities": Rule.Severity.choices,
        "open_count": Incident.objects.for_user(request.user).open().count(),
        "has_rules": Rule.objects.exists(),
    }  # fmt: skip
    return render(request, "alerts/index.html", context)


def filled_in(request: HttpRequest) -> QueryDict:
    """What was asked for; a select that was left as it was asks for nothing."""
    asked = request.GET.copy()
    for name in [name for name, values in asked.lists() if not any(values)]:
        del asked[name]
    return asked


def fitting(found: FilterSet) -> QuerySet[Any]:
    """Filters that make no sense find nothing."""
    rows: QuerySet[Any] = found.qs if found.is_valid() else found.queryset.none()
    return rows


def incident_table(incidents: QuerySet[Incident]) -> Iterator[tuple[object, ...]]:
    yield (_("What"), _("Sentence"), _("Severity"), _("Rule"), _("Since"), _("Until"))
    for batch in in_batches(incidents):
        for each in batch:
            sentence = sentence_of(each.event, each.facts)
            yield (each.name, sentence, each.get_severity_display(), each.rule.name, each.opened_at, each.closed_at)


# --- Rules --------------------------------------------------------------------------------------


@require_GET
@require(Permission.CONFIG_MANAGE)
def rules(request: HttpRequest) -> HttpResponse:
    found = Rule.objects.for_user(request.user).prefetch_related("channels").order_by("name")
    page = Paginator(found, 50).get_page(request.GET.get("page"))
    kinds = EventKind.registry
    rows = [(rule, kinds[rule.event].label if rule.event in kinds else rule.event) for rule in page]
    context = {"page": page, "rows": rows, "kinds": sorted(kinds.items())}
    return render(request, "alerts/rules.html", context)


@require_http_methods(["GET", "POST"])
@require(Permission.CONFIG_MANAGE)
def rule_add(request: HttpRequest, event: str) -> HttpResponse:
    kind = known(EventKind.registry, event)
    rule = Rule(event=event, severity=kind.severity, time_zone=config.TIME_ZONE)
    return _save_rule(request, RuleForm(request.POST or None, kind=kind, instance=rule), {})


@require_http_methods(["GET", "POST"])
@require(Permission.CONFIG_MANAGE)
def rule_edit(request: HttpRequest, pk: int) -> HttpResponse:
    rule = get_object_or_404(Rule.objects.for_user(request.user), pk=pk)
    kind = known(EventKind.registry, rule.event)
    before = audit.facts(rule)
    return _save_rule(request, RuleForm(request.POST or None, kind=kind, instance=rule), before)


def _save_rule(request: HttpRequest, form: RuleForm, before: audit.Facts) -> HttpResponse:
    meantime = Meantime(request, form)
    if request.method == "POST" and form.is_valid() and meantime.is_free():
        with transaction.atomic():
            rule = form.save()
            action = "alert_rule.changed" if before else "alert_rule.added"
            audit.record_change(action, rule, before, request=request)
        messages.success(request, _("The rule is saved."))
        return redirect("alert_rules")
    context = {"form": form, "meantime": meantime, "kind": form.kind}
    return render(request, "alerts/rule.html", context, status=400 if form.errors else 200)


@require_POST
@require(Permission.CONFIG_MANAGE)
def rule_delete(request: HttpRequest, pk: int) -> HttpResponse:
    delete(request, get_object_or_404(Rule.objects.for_user(request.user), pk=pk), "alert_rule.deleted")
    return redirect("alert_rules")


def known(registry: dict[str, Any], name: str) -> Any:
    if name not in registry:
        raise Http404
    return registry[name]


@transaction.atomic
def delete(request: HttpRequest, thing: Rule | Channel, action: str) -> None:
    detail, name = audit.difference(audit.facts(thing), {}), thing.name
    thing.delete()
    audit.record(action, request=request, target=name, detail=detail)
    messages.success(request, _("“%(name)s” is deleted.") % {"name": name})


# --- Channels -----------------------------------------------------------------------------------


@require_GET
@require(Permission.CONFIG_MANAGE)
def channels(request: HttpRequest) -> HttpResponse:
    found = Channel.objects.for_user(request.user).annotate(rule_count=Count("rules")).order_by("name")
    page = Paginator(found, 50).get_page(request.GET.get("page"))
    kinds = ChannelKind.registry
    rows = [(each, kinds[each.kind].label if each.kind in kinds else each.kind) for each in page]
    context = {"page": page, "rows": rows, "kinds": sorted(kinds.items()), "languages": settings.LANGUAGES}
    return render(request, "alerts/channels.html", context)


@sensitive_variables()
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@require(Permission.CONFIG_MANAGE)
def channel_add(request: HttpRequest, kind: str) -> HttpResponse:
    channel = Channel(kind=kind, language="fr" if (get_language() or "").startswith("fr") else "en")
    form = ChannelForm(request.POST or None, kind=known(ChannelKind.registry, kind), instance=channel)
    return _save_channel(request, form, {})


@sensitive_variables()
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@require(Permission.CONFIG_MANAGE)
def channel_edit(request: HttpRequest, pk: int) -> HttpResponse:
    channel = get_object_or_404(Channel.objects.for_user(request.user), pk=pk)
    before = audit.facts(channel)
    kind = known(ChannelKind.registry, channel.kind)
    return _save_channel(request, ChannelForm(request.POST or None, kind=kind, instance=channel), before)


def _save_channel(request: HttpRequest, form: ChannelForm, before: audit.Facts) -> HttpResponse:
    meantime = Meantime(request, form)
    if request.method == "POST" and form.is_valid() and meantime.is_free():
        with transaction.atomic():
            channel = form.save()
            more = {"destination": "set"} if form.has_new_target else {}
            action = "alert_channel.changed" if before else "alert_channel.added"
            audit.record_change(action, channel, before, request=request, **more)
        messages.success(request, _("The channel is saved. Send a test, to see whether it arrives."))
        return redirect("alert_channel_edit", pk=channel.pk)
    channel = form.instance
    newest = channel.deliveries.select_related("job").first() if channel.pk else None
    context = {"form": form, "meantime": meantime, "channel": channel, "newest": newest}
    return render(request, "alerts/channel.html", context, status=400 if form.errors else 200)


@require_POST
@require(Permission.CONFIG_MANAGE)
def channel_test(request: HttpRequest, pk: int) -> HttpResponse:
    channel = get_object_or_404(Channel.objects.for_user(request.user), pk=pk)
    try:
        job = send_test(channel, user=signed_in(request), trigger=Job.Trigger.USER)
    except Refused as refusal:
        messages.error(request, str(refusal))
        return redirect("alert_channel_edit", pk=pk)
    return redirect("job", pk=job.pk)


@require_POST
@require(Permission.CONFIG_MANAGE)
def channel_delete(request: HttpRequest, pk: int) -> HttpResponse:
    delete(request, get_object_or_404(Channel.objects.for_user(request.user), pk=pk), "alert_channel.deleted")
    return redirect("alert_channels")


@require_GET
@require(Permission.CONFIG_MANAGE)
def deliveries(request: HttpRequest) -> HttpResponseBase:
    sent = Delivery.objects.for_user(request.user).select_related("channel", "rule").order_by("-created_at", "-id")
    found = DeliveryFilter(filled_in(request), sent)
    if is_csv(request):
        return as_csv("deliveries", delivery_table(fitting(found)))
    page = Deep(fitting(found), 50).get_page(request.GET.get("page"))
    context = {"page": page, "filter": found, "statuses": Delivery.Status.choices}
    return render(request, "alerts/deliveries.html", context)


def delivery_table(deliveries: QuerySet[Delivery]) -> Iterator[tuple[object, ...]]:
    yield (_("Created"), _("Channel"), _("Kind"), _("Rule"), _("Alerts"), _("Status"), _("Sent"), _("Error"))
    for batch in in_batches(deliveries):
        for each in batch:
            yield (
                each.created_at, each.channel.name, each.get_kind_display(), each.rule.name if each.rule else "",
                each.count, each.get_status_display(), each.sent_at, each.error,
            )  # fmt: skip


# --- Mail templates -----------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
@require(Permission.CONFIG_MANAGE)
def template(request: HttpRequest, language: str) -> HttpResponse:
    """What mails say in one language: looked at as it would be, saved, or put back to ours."""
    if language not in dict(settings.LANGUAGES):
        raise Http404
    stored = MailTemplate.objects.filter(language=language).first()
    before = audit.facts(stored) if stored else {}
    if request.method == "POST" and "reset" in request.POST:
        return _reset_template(request, stored, language)
    ours = texts.OURS[language]
    instance = stored or MailTemplate(language=language, subject=ours.subject, text=ours.text, html=ours.html)
    form = TemplateForm(request.POST or None, instance=instance)
    meantime = Meantime(request, form)
    if request.method == "POST" and "preview" not in request.POST and form.is_valid() and meantime.is_free():
        with transaction.atomic():
            saved = form.save()
            audit.record_change("alert_template.changed", saved, before, request=request)
        messages.success(request, _("The template is saved."))
        return redirect("alert_template", language=language)
    shown = form.cleaned_data if form.is_bound and form.is_valid() else vars(texts.template_of(language))
    context = {
        "form": form, "meantime": meantime, "code": language, "language": dict(settings.LANGUAGES)[language],
        "is_own": stored is not None, "preview": preview(shown, language),
    }  # fmt: skip
    return render(request, "alerts/template.html", context, status=400 if form.errors else 200)


def preview(shown: dict[str, Any], language: str) -> dict[str, str]:
    try:
        parts = texts.rendered(texts.Template(shown["subject"], shown["text"], shown["html"]), sample(language))
    except BadTemplate as error:
        return {"text": str(error)}
    return dict(zip(("subject", "text", "html"), parts, strict=True))


@transaction.atomic
def _reset_template(request: HttpRequest, stored: MailTemplate | None, language: str) -> HttpResponse:
    if stored:
        stored.delete()
        audit.record("alert_template.reset", request=request, target=dict(settings.LANGUAGES)[language])
        messages.success(request, _("Mails say again what ours say."))
    return redirect("alert_template", language=language)
