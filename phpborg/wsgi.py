"""For servers that speak WSGI; the live pages need ASGI."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "phpborg.settings")
application = get_wsgi_application()
