"""The web process: `uvicorn phpborg.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "phpborg.settings")
application = get_asgi_application()
