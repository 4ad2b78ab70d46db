"""What the child processes of these tests run with: the site's own settings, and a job type that waits to be told."""

import os

from phpborg.settings import *  # noqa: F403
from phpborg.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.slow"]
if "BUSY_SECONDS" in os.environ:
    DATABASES["default"]["OPTIONS"]["timeout"] = float(os.environ["BUSY_SECONDS"])
