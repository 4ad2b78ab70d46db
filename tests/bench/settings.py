"""The site's own settings, and a job type of a known length."""

from phpborg.settings import *  # noqa: F403
from phpborg.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.bench.nap"]
