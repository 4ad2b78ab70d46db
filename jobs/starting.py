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
from jobs.models import Job
from jobs.runner import JobRunner
from jobs.serializers import JobSerializer

ONE_JOB = {202: JobSerializer}  # for extend_schema(responses=...)
JOBS = {202: JobSerializer(many=True)}


def start(runner: type[JobRunner[Any]], subject: Any, request: Request, parameters: Any = None) -> Job:
    """Validate `parameters` with the runner's own form and enqueue. Raises ValidationError or Refused."""
    try:
        json.dumps(parameters, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValidationError({"parameters": ["A text in it is not Unicode: it has half of a character."]}) from None
    form = runner.form(parameters or {})
    if unknown := set(parameters or {}) - set(form.fields):
        raise ValidationError({name: ["There is no such parameter."] for name in sorted(unknown)})
    if not form.is_valid():
        raise ValidationError(form_errors(form))
    return runner.enqueue(subject, user=signed_in(request), trigger=Job.Trigger.API, **form.cleaned_data)


def queued(jobs: Job | list[Job]) -> Response:
    """202 with the job, or the jobs, that will do it."""
    data = JobSerializer(jobs, many=True).data if isinstance(jobs, list) else JobSerializer(jobs).data
    return Response(data, status=status.HTTP_202_ACCEPTED)


def form_errors(form: forms.BaseForm) -> dict[str, list[str]]:
    """A form's errors as the API tells them; what belongs to no field stands under ""."""
    return {"" if name == "__all__" else name: [str(error) for error in errors] for name, errors in form.errors.items()}
