"""The project's settings in a temporary data directory, with fast passwords and no manifest of static files."""

import atexit
import os
import shutil
import tempfile

# Short on purpose: the embedded Redis listens on a Unix socket below it.
_directory = tempfile.mkdtemp(prefix="phpborg-", dir="/tmp")
atexit.register(shutil.rmtree, _directory, ignore_errors=True)
os.environ["PHPBORG_DATA_DIR"] = _directory
for _name in (
    "SECRET_KEY", "ENCRYPTION_KEYS", "JWT_KEY", "REDIS_URL", "SITE_URL", "WORKER_PLACES", "DEBUG", "TIME_ZONE",
):  # fmt: skip
    os.environ.pop(_name, None)
# How full the disk of whoever runs the tests is must not matter.
os.environ["POOL_LOW_PERCENT"] = os.environ["POOL_LOW_GB"] = "0"

from phpborg.settings import *  # noqa: E402, F403
from phpborg.settings import DATA_DIR, DATABASES  # noqa: E402

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_AUTOREFRESH = True
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, because threads and child processes of a test open it too.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
