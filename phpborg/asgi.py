"""The web process: `uvicorn phpborg.asgi:application`."""

import gc
import os
import resource
import sys
from concurrent.futures import ThreadPoolExecutor

import django
from django.conf import settings
from django.db import DatabaseError, connection
from django.template.loader import get_template
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "phpborg.settings")
django.setup(set_prefix=False)

from accounts import encryption  # noqa: E402  # models want the applications to be ready
from jobs.outliving import Handler  # noqa: E402

application = Handler()

# Each program that listens has an open file, and the usual soft limit is 1024.
_limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_limits[1], _limits[1]))


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

# What is loaded now stays. Looked through again and again by Python's collector it costs every twentieth page 150 ms.
_urls = get_resolver().url_patterns
for _path in settings.BASE_DIR.glob("templates/**/*.html"):
    get_template(str(_path.relative_to(settings.BASE_DIR / "templates")))
gc.collect()
gc.freeze()
# The rest it looks through a little less often than by itself: at every twentieth answer of a thousand lines, 100 ms.
# More seldom, and a thousand programs that listen take more than 60 kB each.
gc.set_threshold(700, 10, 15)
