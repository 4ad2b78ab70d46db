"""The web process: `uvicorn phpborg.asgi:application`."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from django.core.asgi import get_asgi_application
from django.db import DatabaseError, connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "phpborg.settings")
application = get_asgi_application()

from accounts import encryption  # noqa: E402  # models want the applications to be ready


def _prove_key() -> None:
    """With another key it would store secrets that no worker can read."""
    try:
        encryption.verify()
    except encryption.WrongKey as error:
        sys.exit(str(error))
    except DatabaseError:
        return  # it answers all the same, and /readyz says what is missing
    finally:
        connection.close()


with ThreadPoolExecutor(1) as thread:  # uvicorn imports us in its event loop, where Django refuses to ask a database
    thread.submit(_prove_key).result()
