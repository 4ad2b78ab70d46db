"""What the API of any app needs to start a job: its parameters validated, the answer 202 with the job.

The apps above import this module, never our serializers or views.
"""

import json
from typing import Any

from django import forms
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.access import signed_in
from accounts.strict import LIST_OR_OBJECT, TEXT, TRUE_OR_FALSE, WHOLE_NUMBER, JsonType
from jobs.models import Job
from jobs.runner import JobRunner
from jobs.serializers import JobSerializer

ONE_JOB = {202: JobSerializer}  # for extend_schema(responses=...)
JOBS = {202: JobSerializer(many=True)}


def start(runner: type[JobRunner[Any]], subject: Any, request: Request, parameters: Any = None) -> Job:
    """Validate `parameters`, or what was sent, with the form of `runner`. Raises ValidationError or Refused."""
    sent = request.data if parameters is None else parameters
    return runner.enqueue(subject, user=signed_in(request), trigger=Job.Trigger.API, **validated(runner.form, sent))


def validated(form_class: type[forms.Form], parameters: Any, **more: Any) -> dict[str, Any]:
    """What a form that is a page's too makes of a JSON object. Raises ValidationError.

    By itself a form takes nearly anything for a text, as browsers send nothing else.
    """
    if not isinstance(parameters, dict):
        raise ValidationError("Send an object, whose names are those of the parameters.")
    form = form_class(parameters, **more)
    if unknown := set(parameters) - set(form.fields):
        raise ValidationError({name: ["There is no such parameter."] for name in sorted(unknown)})
    if wrong := {name: [why] for name, value in parameters.items() if (why := misfit(form.fields[name], value))}:
        raise ValidationError(wrong)
    if not form.is_valid():
        raise ValidationError(form_errors(form))
    if odd := [name for name, value in parameters.items() if not is_unicode(value)]:
        raise ValidationError({name: ["A text in it is not Unicode: it has half of a character."] for name in odd})
    return form.cleaned_data


def is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


# The first that a field is one of says what JSON has for it.
JSON_TYPES: list[tuple[type[forms.Field], JsonType]] = [
    (forms.BooleanField, TRUE_OR_FALSE),
    (forms.IntegerField, WHOLE_NUMBER),
    (forms.JSONField, LIST_OR_OBJECT),
    (forms.Field, TEXT),
]


def misfit(field: forms.Field, value: Any) -> str:
    """What is wrong with the type of a JSON value, as a sentence; "" for nothing. Null is as if it were not there.

    A field of our own says its `json_type`.
    """
    own = getattr(field, "json_type", None)
    wanted = JsonType(*own) if own else next(known for of, known in JSON_TYPES if isinstance(field, of))
    return "" if value is None or wanted.takes(value) else str(wanted.sentence)


def refuse_parameters(request: Request) -> None:
    """For what takes none. Raises ValidationError."""
    validated(forms.Form, request.data)


def queued(jobs: Job | list[Job]) -> Response:
    """202 with the job, or the jobs, that will do it."""
    data = JobSerializer(jobs, many=True).data if isinstance(jobs, list) else JobSerializer(jobs).data
    return Response(data, status=status.HTTP_202_ACCEPTED)


def form_errors(form: forms.BaseForm) -> dict[str, list[str]]:
    """A form's errors as the API tells them; what belongs to no field stands under ""."""
    return {"" if name == "__all__" else name: [str(error) for error in errors] for name, errors in form.errors.items()}
