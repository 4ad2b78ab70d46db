"""All settings, read from the environment; without any, a safe single-machine installation.

Every variable stands in the table of README.md. `PHPBORG_DATA_DIR` holds what must outlive a
restart: the SQLite database, the generated secrets, the catalogs, borg's own cache.
"""

import os
import secrets
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django_stubs_ext
import environ
import redis.connection
from cryptography.fernet import Fernet
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
django_stubs_ext.monkeypatch()  # ModelAdmin[Server] and the like, as the type checker writes them

DATA_DIR = Path(env.str("PHPBORG_DATA_DIR", default=str(BASE_DIR / "var"))).resolve()
DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)


def generated(name: str, value: str) -> str:
    """Return the content of the secret file `name` in the data directory, made from `value` once."""
    path = DATA_DIR / name
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        file.write(value + "\n")
    return value


# --- What an installation says about itself ---------------------------------------------------

DEBUG = env.bool("DEBUG", default=False)
PORT = env.int("PHPBORG_PORT", default=8000)
HOST = env.str("PHPBORG_HOST", default="127.0.0.1")
# Cookies, redirects and the host names that are answered to go by this one, which a page cannot change: whoever got it
# wrong there would lock everybody out. The live setting of the same name is what links say.
SITE_URL = env.str("SITE_URL", default=f"http://localhost:{PORT}").rstrip("/")
HTTPS = SITE_URL.startswith("https://")
ALLOWED_HOSTS = [
    *{urlsplit(SITE_URL).hostname or "localhost", "localhost", "127.0.0.1", "[::1]"},
    *env.list("ALLOWED_HOSTS", default=[]),
]
CSRF_TRUSTED_ORIGINS = [SITE_URL]
TRUSTED_PROXIES = env.str("TRUSTED_PROXIES", default="127.0.0.1")

# --- Secrets ----------------------------------------------------------------------------------

SECRET_KEY = env.str("SECRET_KEY", default="") or generated("secret_key", secrets.token_urlsafe(64))
# Newest first: new values are encrypted with the first key, old ones can be read with any.
ENCRYPTION_KEYS = [
    key.strip()
    for key in (
        env.str("ENCRYPTION_KEYS", default="") or generated("encryption_keys", Fernet.generate_key().decode())
    ).split(",")
]
JWT_KEY = env.str("JWT_KEY", default=SECRET_KEY)
if len(JWT_KEY.encode()) < 32:
    raise ImproperlyConfigured("JWT_KEY (or SECRET_KEY) must have at least 32 bytes.")

# Who may read /metrics: whoever sends the token, or asks from one of these networks. Neither: nobody.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
if METRICS_TOKEN and len(METRICS_TOKEN) < 16:
    raise ImproperlyConfigured("METRICS_TOKEN must have at least 16 characters.")
try:
    METRICS_ALLOWED = [ip_network(text) for text in env.list("METRICS_ALLOWED", default=[])]
except ValueError as error:
    raise ImproperlyConfigured(f"METRICS_ALLOWED must name addresses or networks, as 10.0.0.0/8: {error}.") from error

# Networks inside, as 10.0.0.0/8, to which webhooks and other channels of alerts may lead; else only out into the world.
try:
    WEBHOOK_ALLOWED = [ip_network(text) for text in env.list("WEBHOOK_ALLOWED", default=[])]
except ValueError as error:
    raise ImproperlyConfigured(f"WEBHOOK_ALLOWED must name addresses or networks, as 10.0.0.0/8: {error}.") from error

# --- Applications -----------------------------------------------------------------------------

INSTALLED_APPS = [
    "phpborg",
    "alerts",
    "backups",
    "servers",
    "jobs",
    "accounts",
    "accounts.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.forms",  # its templates, of which ours replace some
    "constance",
    "corsheaders",
    "csp",
    "django_eventstream",
    "django_filters",
    "django_htmx",
    "django_rq",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware.PreferencesMiddleware",
    "phpborg.middleware.SiteTimeZoneMiddleware",
    "accounts.middleware.AuditMiddleware",
    "accounts.middleware.FactorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "accounts.idempotency.IdempotencyMiddleware",
]
ROOT_URLCONF = "phpborg.urls"
ASGI_APPLICATION = "phpborg.asgi.application"
WSGI_APPLICATION = "phpborg.wsgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "builtins": [
                "django.templatetags.i18n",
                "django.templatetags.l10n",
                "django.templatetags.static",
                "phpborg.templatetags.ui",
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "phpborg.shell.shell",
            ],
        },
    },
]

FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

# --- Database and Redis -----------------------------------------------------------------------

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR}/phpborg.sqlite3")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # IMMEDIATE: a transaction that will write takes the lock at its start, so that it waits its
    # turn (`timeout`) instead of failing half-way with "database is locked".
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8000;",
    }
elif DATABASES["default"]["ENGINE"] == "django.db.backends.mysql":
    _options = DATABASES["default"].get("OPTIONS", {})
    if _ca := _options.pop("ssl_ca", ""):  # TLS, with the machine that the address names and no other
        _options |= {"ssl": {"ca": _ca}, "ssl_mode": "VERIFY_IDENTITY"}
    DATABASES["default"]["OPTIONS"] = {
        **_options,
        "charset": "utf8mb4",
        "init_command": "SET sql_mode='STRICT_TRANS_TABLES'",
        "isolation_level": "read committed",
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

EMBEDDED_REDIS_SOCKET = DATA_DIR / "redis.sock"
REDIS_URL = env.str("REDIS_URL", default="")
REDIS_IS_EMBEDDED = not REDIS_URL
REDIS_URL = REDIS_URL or f"unix://{EMBEDDED_REDIS_SOCKET}?db=0"

# --- Jobs: the queue that rings the workers, the events that nudge the pages -------------------

# A place is a machine whose workers can reach certain storage pools; each has three queues.
WORKER_PLACES = env.list("WORKER_PLACES", default=["default"])
RQ_QUEUES = {
    f"{place}.{level}": {"URL": REDIS_URL, "SERIALIZER": "rq.serializers.JSONSerializer"}
    for place in WORKER_PLACES
    for level in ("high", "normal", "low")
}
RQ_SHOW_ADMIN_LINK = False  # its dashboard asks is_staff, and stops running jobs with SIGKILL

_redis = redis.connection.parse_url(REDIS_URL)  # type: ignore[no-untyped-call]
EVENTSTREAM_REDIS = {
    {"path": "unix_socket_path"}.get(key, key): value for key, value in _redis.items() if key != "connection_class"
}
if _redis.get("connection_class") is redis.connection.SSLConnection:
    EVENTSTREAM_REDIS["ssl"] = True
EVENTSTREAM_CHANNELMANAGER_CLASS = "jobs.live.ChannelManager"

# --- Borg -------------------------------------------------------------------------------------

BORG_PATH = env.str("BORG_PATH", default="borg")
BORG_BASE_DIR = DATA_DIR / "borg"
CATALOG_DIR = DATA_DIR / "catalog"
DIFF_DIR = DATA_DIR / "diffs"
MOUNT_DIR = DATA_DIR / "mounts"  # of archives that somebody looks into, on each worker's machine
SCRATCH_DIR = Path(env.str("SCRATCH_DIR", default=str(DATA_DIR / "scratch"))).resolve()  # of restore tests, there too

# --- Live settings: jobs/config.py reads them, /api/settings changes them -----------------------

# What SMTP takes for a name or a password.
TYPED = RegexValidator(r"\A[\x20-\x7e]*\Z", _("Only letters, digits and signs of ASCII go over SMTP."))
# By their kind: the field of a form, and its bounds. The environment gives the defaults, which must keep to them.
CONSTANCE_BACKEND = "constance.backends.database.DatabaseBackend"
CONSTANCE_ADDITIONAL_FIELDS = {
    "days": ["django.forms.IntegerField", {"min_value": 0, "max_value": 36_500}],
    "seconds": ["django.forms.IntegerField", {"min_value": 0, "max_value": 365 * 24 * 3600}],
    "pauses": ["jobs.fields.WholeNumbersField", {"min_value": 0, "max_value": 7 * 24 * 3600, "most": 20}],
    "lines": ["django.forms.IntegerField", {"min_value": 100, "max_value": 100_000}],
    "percent": ["django.forms.IntegerField", {"min_value": 0, "max_value": 100}],
    "gigabytes": ["django.forms.IntegerField", {"min_value": 0, "max_value": 1_000_000}],
    "site_address": ["jobs.fields.SiteAddressField", {"max_length": 200}],
    "time_zone": ["accounts.fields.TimeZoneField", {"max_length": 64}],
    "time_zone_or_none": ["accounts.fields.TimeZoneField", {"max_length": 64, "required": False}],
    "compression": ["backups.fields.CompressionField", {"max_length": 20}],
    "cron": ["backups.fields.CronField", {"max_length": 100, "required": False}],
    "name": ["django.forms.CharField", {"max_length": 60, "required": False}],
    "proof_days": ["django.forms.IntegerField", {"min_value": 0, "max_value": 3650}],
    "proof_files": ["django.forms.IntegerField", {"min_value": 0, "max_value": 2_000}],
    "address": ["servers.fields.AddressField", {"max_length": 253, "required": False}],
    "port": ["django.forms.IntegerField", {"min_value": 1, "max_value": 65_535}],
    "tls": ["django.forms.ChoiceField", {"choices": [
        ("starttls", _("STARTTLS: begins open, then encrypts (port 587)")),
        ("tls", _("TLS from the first byte (port 465)")),
        ("none", _("none: everybody on the way reads along")),
    ]}],
    "login": ["django.forms.CharField", {"max_length": 200, "required": False, "validators": [TYPED]}],
    "secret": ["jobs.fields.SecretField", {"max_length": 512, "validators": [TYPED]}],
    "mail_address": ["django.forms.EmailField", {"max_length": 254, "required": False}],
    "patience": ["django.forms.IntegerField", {"min_value": 1, "max_value": 60}],
}  # fmt: skip
CONSTANCE_CONFIG = {
    # The site
    "SITE_URL": (
        SITE_URL,
        _("As people open it in their browser: what links in mails and evidence begin with."),
        "site_address",
    ),
    "TIME_ZONE": (
        env.str("TIME_ZONE", default="UTC"),
        _("In which times are shown to whoever has chosen none on their profile."),
        "time_zone",
    ),
    # New plans
    "PLAN_SCHEDULE": (
        env.str("PLAN_SCHEDULE", default="0 2 * * *"),
        _("When a new plan runs, as a cron expression: what its form shows at first. Empty: only by hand."),
        "cron",
    ),
    "PLAN_TIME_ZONE": (
        env.str("PLAN_TIME_ZONE", default=""),
        _("In which a new plan's schedule is meant. Empty: that of whoever makes it."),
        "time_zone_or_none",
    ),
    "PLAN_RETENTION": (
        env.str("PLAN_RETENTION", default=""),
        _("The name of the retention policy that the form of a new plan shows at first. Empty: the first by name."),
        "name",
    ),
    "PLAN_COMPRESSION": (
        env.str("PLAN_COMPRESSION", default="lz4"),
        _("How a new plan's archives are compressed: none, lz4, zstd, zlib or lzma, or with a level (zstd,9)."),
        "compression",
    ),
    "PLAN_PROOF_DAYS": (
        env.int("PLAN_PROOF_DAYS", default=30),
        _("How many days after one restore test of a new plan the next one comes. 0: never by itself."),
        "proof_days",
    ),
    "PLAN_PROOF_FILES": (
        env.int("PLAN_PROOF_FILES", default=200),
        _("How many files a restore test of a new plan takes by chance. 0: all."),
        "proof_files",
    ),
    # Housekeeping
    "JOB_RETRY_SECONDS": (
        env.list("JOB_RETRY_SECONDS", cast=int, default=[60, 300, 900]),
        _("Pauses in seconds before a job that failed with what may pass is tried again; the last one repeats."),
        "pauses",
    ),
    "JOB_LOG_LINES": (
        env.int("JOB_LOG_LINES", default=10_000),
        _("How many lines are kept of a job's log: the first half and the last half."),
        "lines",
    ),
    "JOB_KEEP_DAYS": (
        env.int("JOB_KEEP_DAYS", default=365),
        _("How many days ended jobs are kept; the newest of each kind always is. 0: for ever."),
        "days",
    ),
    "LOG_KEEP_DAYS": (
        env.int("LOG_KEEP_DAYS", default=90),
        _("How many days the logs of ended jobs are kept. 0: for ever."),
        "days",
    ),
    "COMPACT_AFTER_DAYS": (
        env.int("COMPACT_AFTER_DAYS", default=3),
        _("How many days after a deletion, and a good check, its room is given back; until then it can be undone."),
        "days",
    ),
    "CHECK_MAX_SECONDS": (
        env.int("CHECK_MAX_SECONDS", default=24 * 3600),
        # It does not go on where it was stopped, so this must be longer than a whole one takes.
        _("How many seconds a check of all data may take; the next one begins anew. 0: as long as it takes."),
        "seconds",
    ),
    "POOL_LOW_PERCENT": (
        env.int("POOL_LOW_PERCENT", default=10),
        _("With a smaller share of its disk free, in percent, a storage pool counts as nearly full."),
        "percent",
    ),
    "POOL_LOW_GB": (
        env.int("POOL_LOW_GB", default=5),
        _("With fewer gigabytes of its disk free, a storage pool counts as nearly full."),
        "gigabytes",
    ),
    # Mail
    "SMTP_HOST": (
        env.str("SMTP_HOST", default=""),
        _("The mail server that takes our mails. Empty: phpBorg sends none."),
        "address",
    ),
    "SMTP_PORT": (
        env.int("SMTP_PORT", default=587),
        _("Its port: 587 with STARTTLS, 465 with TLS, 25 within a network."),
        "port",
    ),
    "SMTP_TLS": (
        env.str("SMTP_TLS", default="starttls"),
        _("How the way there is kept closed. Its certificate must be good for its name."),
        "tls",
    ),
    "SMTP_USER": (env.str("SMTP_USER", default=""), _("As whom phpBorg logs in there. Empty: it does not."), "login"),
    "SMTP_PASSWORD": (
        env.str("SMTP_PASSWORD", default=""),
        _("Kept encrypted, opened only by a worker that sends a mail, and never shown again."),
        "secret",
    ),
    "SMTP_TIMEOUT_SECONDS": (
        env.int("SMTP_TIMEOUT_SECONDS", default=20),
        _("How long the mail server may be silent before phpBorg gives up, in seconds."),
        "patience",
    ),
    "MAIL_SENDER": (
        env.str("MAIL_SENDER", default=""),
        _("The address that mails come from; the mail server must let it pass."),
        "mail_address",
    ),
}
# The sections of the page, each with its settings; constance's own check misses none.
CONSTANCE_CONFIG_FIELDSETS = (
    (_("Site"), ("SITE_URL", "TIME_ZONE")),
    (_("New plans"), (
        "PLAN_SCHEDULE", "PLAN_TIME_ZONE", "PLAN_RETENTION", "PLAN_COMPRESSION", "PLAN_PROOF_DAYS", "PLAN_PROOF_FILES",
    )),
    (_("Housekeeping"), (
        "JOB_KEEP_DAYS", "LOG_KEEP_DAYS", "JOB_LOG_LINES", "JOB_RETRY_SECONDS", "CHECK_MAX_SECONDS",
        "COMPACT_AFTER_DAYS", "POOL_LOW_PERCENT", "POOL_LOW_GB",
    )),
    (_("Mail"), (
        "SMTP_HOST", "SMTP_PORT", "SMTP_TLS", "SMTP_USER", "SMTP_PASSWORD", "MAIL_SENDER", "SMTP_TIMEOUT_SECONDS",
    )),
)  # fmt: skip
EMAIL_BACKEND = "jobs.mail.LiveBackend"

# --- Who gets in ------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.throttle.ThrottledBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "login"
PASSWORD_RESET_TIMEOUT = 3600  # seconds that the link of a mail is good for

SESSION_ENGINE = "accounts.sessions"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "phpborg.views.csrf_failure"
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],  # Bootstrap's own CSS draws its carets and checks as data URIs
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}
CSP_SWAGGER = {"style-src": ["'unsafe-inline'"]}  # added for its page alone: it styles itself inline
CORS_ALLOWED_ORIGINS = env.list("CORS_ALLOWED_ORIGINS", default=[])
CORS_URLS_REGEX = r"^/api/.*$"

# --- The API ----------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.tokens.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.access.ApiPermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["phpborg.listing.StrictFilters", "phpborg.listing.Ordering"],
    "DEFAULT_PAGINATION_CLASS": "phpborg.listing.Pages",
    "DEFAULT_SCHEMA_CLASS": "phpborg.schema.Schema",
    "DEFAULT_METADATA_CLASS": None,  # /api/schema describes the routes; OPTIONS is only CORS', and answered before
    "EXCEPTION_HANDLER": "phpborg.errors.answer_error",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SIMPLE_JWT = {
    "ALGORITHM": "HS256",
    "SIGNING_KEY": JWT_KEY,
    "ACCESS_TOKEN_LIFETIME": timedelta(seconds=env.int("JWT_ACCESS_SECONDS", default=15 * 60)),
    "REFRESH_TOKEN_LIFETIME": timedelta(seconds=env.int("JWT_REFRESH_SECONDS", default=7 * 24 * 3600)),
    "USER_ID_CLAIM": "sub",
    "LEEWAY": 10,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "phpBorg",
    "DESCRIPTION": "The central manager for BorgBackup: the same as the pages, for programs.",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {"JobStatusEnum": "jobs.models.Job.Status", "HealthEnum": "backups.stats_viewsets.STATES"},
}

# --- Languages, static files, log -------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("fr", "Français")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = CONSTANCE_CONFIG["TIME_ZONE"][0]  # of commands and logs; pages follow the live setting
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"  # `make setup` collects them
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_ALLOW_ALL_ORIGINS = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
        "nobody": {"class": "logging.NullHandler"},
    },
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        # Its INFO lines tell of every channel and packet; what matters reaches the job's own log.
        "paramiko": {"level": "WARNING"},
        "django_eventstream": {"level": "WARNING"},
        # They say where messages go to, with the tokens in it; alerts/channels/services.py listens.
        "apprise": {"handlers": ["nobody"], "propagate": False},
        "urllib3": {"handlers": ["nobody"], "propagate": False},
    },
}
