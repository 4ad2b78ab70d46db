"""What `manage.py check` tells about this installation."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from accounts import encryption


@register()
def encryption_keys(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    try:
        encryption.encrypt("")
    except ImproperlyConfigured as error:
        return [Error(str(error), id="phpborg.E001")]
    return []


@register()
def places(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not settings.WORKER_PLACES:
        return [Error("WORKER_PLACES is empty: no worker would serve any queue.", id="phpborg.E002")]
    return []
