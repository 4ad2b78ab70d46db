"""phpborg.settings, read by a process of its own for each environment."""

import ast
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet
from django.conf import settings
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

ROOT = Path(settings.BASE_DIR)
KEPT = ("PATH", "HOME", "LANG", "VIRTUAL_ENV")
NEEDED = {"SECRET_KEY": "s" * 50, "ENCRYPTION_KEYS": Fernet.generate_key().decode()}


def run(data: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    env |= {"PHPBORG_DATA_DIR": str(data), **variables}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def read(data: Path, *names: str, **variables: str) -> list[Any]:
    """The settings `names`, as a process with `variables` in its environment sees them."""
    script = f"import phpborg.settings as s; print(repr([getattr(s, name, None) for name in {names!r}]))"
    ran = run(data, "-c", script, **variables)
    assert ran.returncode == 0, ran.stderr
    values: list[Any] = ast.literal_eval(ran.stdout)
    return values


def read_text(data: Path, expression: str, **variables: str) -> str:
    ran = run(data, "-c", f"import phpborg.settings as s; print({expression})", **variables)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def refused(data: Path, **variables: str) -> str:
    ran = run(data, "-c", "import phpborg.settings", **variables)
    assert ran.returncode != 0
    return ran.stderr


# --- Secrets --------------------------------------------------------------------------------------


def test_the_first_start_makes_secrets_that_only_we_can_read(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    read(data, "SECRET_KEY")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
    assert modes == {"secret_key": 0o600, "encryption_keys": 0o600}
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_every_later_start_reads_the_same_secrets(tmp_path: Path) -> None:
    names = ("SECRET_KEY", "ENCRYPTION_KEYS", "JWT_KEY")
    assert read(tmp_path, *names) == read(tmp_path, *names)


def test_secrets_are_long_and_each_installation_has_its_own(tmp_path: Path) -> None:
    [[one], [other]] = [read(tmp_path / name, "SECRET_KEY") for name in ("one", "other")]
    assert one != other
    assert len(one) >= 64


def test_a_variable_goes_before_the_file_and_leaves_none(tmp_path: Path) -> None:
    assert read(tmp_path, "SECRET_KEY", "ENCRYPTION_KEYS", **NEEDED) == [
        NEEDED["SECRET_KEY"],
        [NEEDED["ENCRYPTION_KEYS"]],
    ]
    assert list(tmp_path.iterdir()) == []


def test_several_encryption_keys_are_listed_newest_first(tmp_path: Path) -> None:
    keys = [Fernet.generate_key().decode() for _ in range(3)]
    assert read(tmp_path, "ENCRYPTION_KEYS", ENCRYPTION_KEYS=" , ".join(keys)) == [keys]


def test_the_key_of_the_tokens_is_the_secret_key_unless_it_is_named(tmp_path: Path) -> None:
    assert read(tmp_path, "JWT_KEY", **NEEDED) == [NEEDED["SECRET_KEY"]]
    key = "j" * 32
    assert read(tmp_path, "JWT_KEY", **NEEDED, JWT_KEY=key) == [key]


@pytest.mark.parametrize("variables", [{"JWT_KEY": "j" * 31}, {"SECRET_KEY": "short"}])
def test_a_key_that_is_too_short_for_hs256_is_refused(tmp_path: Path, variables: dict[str, str]) -> None:
    assert "JWT_KEY (or SECRET_KEY) must have at least 32 bytes." in refused(tmp_path, **{**NEEDED, **variables})


def test_a_broken_encryption_key_is_named_by_the_check(tmp_path: Path) -> None:
    ran = run(tmp_path, "manage.py", "check", **{**NEEDED, "ENCRYPTION_KEYS": "broken"})
    assert ran.returncode == 1
    assert "phpborg.E001" in ran.stderr


def test_the_lifetimes_of_tokens_can_be_set(tmp_path: Path) -> None:
    expression = "s.SIMPLE_JWT['ACCESS_TOKEN_LIFETIME'].total_seconds(), s.SIMPLE_JWT['REFRESH_TOKEN_LIFETIME'].days"
    assert read_text(tmp_path, expression, **NEEDED) == "900.0 7"
    assert read_text(tmp_path, expression, **NEEDED, JWT_ACCESS_SECONDS="60", JWT_REFRESH_SECONDS="86400") == "60.0 1"


# --- HTTPS ----------------------------------------------------------------------------------------

HTTPS_FLAGS = (
    "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT", "SECURE_HSTS_INCLUDE_SUBDOMAINS",
    "SECURE_HSTS_PRELOAD",
)  # fmt: skip


def test_with_https_everything_insists_on_it(tmp_path: Path) -> None:
    url = "https://backup.example.org/"
    *flags, hsts, hosts, origins = read(
        tmp_path, *HTTPS_FLAGS, "SECURE_HSTS_SECONDS", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", **NEEDED, SITE_URL=url
    )
    assert flags == [True] * len(HTTPS_FLAGS)
    assert hsts == 365 * 24 * 3600
    assert "backup.example.org" in hosts
    assert origins == ["https://backup.example.org"]


@pytest.mark.parametrize("url", ["", "http://backup.example.org"])
def test_without_https_a_browser_is_still_let_in(tmp_path: Path, url: str) -> None:
    *flags, hsts = read(tmp_path, *HTTPS_FLAGS, "SECURE_HSTS_SECONDS", **NEEDED, **({"SITE_URL": url} if url else {}))
    assert flags == [False] * len(HTTPS_FLAGS)
    assert hsts == 0


def test_the_deployment_check_passes_with_https(tmp_path: Path) -> None:
    ran = run(tmp_path, "manage.py", "check", "--deploy", "--fail-level", "WARNING", SITE_URL="https://b.example.org")
    assert ran.returncode == 0, ran.stderr


def test_the_deployment_check_complains_without_https(tmp_path: Path) -> None:
    ran = run(tmp_path, "manage.py", "check", "--deploy", "--fail-level", "WARNING")
    assert ran.returncode == 1


def test_debug_is_off_and_hosts_are_few_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    debug, hosts, cors = read(tmp_path, "DEBUG", "ALLOWED_HOSTS", "CORS_ALLOWED_ORIGINS", **NEEDED)
    assert (debug, cors) == (False, [])
    assert set(hosts) == {"localhost", "127.0.0.1", "[::1]"}


def test_more_hosts_and_origins_can_be_named(tmp_path: Path) -> None:
    hosts, cors = read(
        tmp_path, "ALLOWED_HOSTS", "CORS_ALLOWED_ORIGINS", **NEEDED, ALLOWED_HOSTS="a.example,b.example",
        CORS_ALLOWED_ORIGINS="https://app.example",
    )  # fmt: skip
    assert {"a.example", "b.example"} < set(hosts)
    assert cors == ["https://app.example"]


# --- Database and Redis ---------------------------------------------------------------------------


def test_without_a_database_there_is_a_file_in_the_data_directory(tmp_path: Path) -> None:
    [databases] = read(tmp_path, "DATABASES", **NEEDED)
    database = databases["default"]
    assert (database["ENGINE"], database["NAME"]) == ("django.db.backends.sqlite3", f"{tmp_path}/phpborg.sqlite3")
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]


def test_mariadb_is_strict_speaks_every_script_and_reads_what_is_committed(tmp_path: Path) -> None:
    url = "mysql://borg:p%40ss@db.example:3307/phpborg?unix_socket=/run/x.sock&connect_timeout=7"
    [databases] = read(tmp_path, "DATABASES", **NEEDED, DATABASE_URL=url)
    database = databases["default"]
    assert database["ENGINE"] == "django.db.backends.mysql"
    assert [database[key] for key in ("USER", "PASSWORD", "HOST", "PORT", "NAME")] == [
        "borg", "p@ss", "db.example", 3307, "phpborg",
    ]  # fmt: skip
    options = database["OPTIONS"]
    assert options["charset"] == "utf8mb4"
    assert options["isolation_level"] == "read committed"
    assert "STRICT_TRANS_TABLES" in options["init_command"]
    assert (options["unix_socket"], int(options["connect_timeout"])) == ("/run/x.sock", 7)


def test_mariadb_on_another_machine_must_show_its_certificate(tmp_path: Path) -> None:
    """Red without `ssl_mode`: the driver speaks without TLS, and `REQUIRE SSL` lets nobody in."""
    url = "mysql://borg@db.example/phpborg?ssl_ca=/etc/phpborg/database.pem"
    [databases] = read(tmp_path, "DATABASES", **NEEDED, DATABASE_URL=url)
    options = databases["default"]["OPTIONS"]
    assert (options["ssl"], options["ssl_mode"]) == ({"ca": "/etc/phpborg/database.pem"}, "VERIFY_IDENTITY")
    assert "ssl_ca" not in options


@pytest.mark.parametrize(
    ("url", "eventstream", "connection"),
    [
        ("redis://redis.example:6380/2", {"host": "redis.example", "port": 6380, "db": 2}, Connection),
        ("redis://:s3cret@redis.example", {"host": "redis.example", "password": "s3cret"}, Connection),
        (
            "redis://borg:s3cret@redis.example:6379/0",
            {"host": "redis.example", "port": 6379, "db": 0, "username": "borg", "password": "s3cret"},
            Connection,
        ),
        ("unix:///run/redis.sock?db=3", {"unix_socket_path": "/run/redis.sock", "db": 3}, UnixDomainSocketConnection),
        (
            "rediss://redis.example:6379/1?ssl_ca_certs=/ca.pem",
            {"host": "redis.example", "port": 6379, "db": 1, "ssl": True, "ssl_ca_certs": "/ca.pem"},
            SSLConnection,
        ),
    ],
)
def test_events_go_to_the_same_redis_as_jobs(
    tmp_path: Path, url: str, eventstream: dict[str, Any], connection: type[Any]
) -> None:
    found, queues, embedded = read(
        tmp_path, "EVENTSTREAM_REDIS", "RQ_QUEUES", "REDIS_IS_EMBEDDED", **NEEDED, REDIS_URL=url
    )
    assert found == eventstream
    assert redis.Redis(**found).connection_pool.connection_class is connection
    assert {each["URL"] for each in queues.values()} == {url}
    assert embedded is False


def test_without_a_redis_there_is_one_of_our_own_in_the_data_directory(tmp_path: Path) -> None:
    url, embedded, eventstream = read(tmp_path, "REDIS_URL", "REDIS_IS_EMBEDDED", "EVENTSTREAM_REDIS", **NEEDED)
    assert (url, embedded) == (f"unix://{tmp_path}/redis.sock?db=0", True)
    assert eventstream == {"unix_socket_path": f"{tmp_path}/redis.sock", "db": 0}


# --- Places ---------------------------------------------------------------------------------------


def test_every_place_has_three_queues_of_json(tmp_path: Path) -> None:
    [queues] = read(tmp_path, "RQ_QUEUES", **NEEDED, WORKER_PLACES="default,cellar")
    assert list(queues) == [
        f"{place}.{level}" for place in ("default", "cellar") for level in ("high", "normal", "low")
    ]
    assert {each["SERIALIZER"] for each in queues.values()} == {"rq.serializers.JSONSerializer"}


def test_without_a_place_there_is_one(tmp_path: Path) -> None:
    [places] = read(tmp_path, "WORKER_PLACES", **NEEDED)
    assert places == ["default"]


def test_no_place_at_all_is_named_by_the_check(tmp_path: Path) -> None:
    ran = run(tmp_path, "manage.py", "check", **NEEDED, WORKER_PLACES="")
    assert ran.returncode == 1
    assert "phpborg.E002" in ran.stderr


# --- Live settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("JOB_KEEP_DAYS", "-1", "Ensure this value is greater than or equal to 0."),
        ("POOL_LOW_PERCENT", "101", "Ensure this value is less than or equal to 100."),
        ("JOB_RETRY_SECONDS", "60,-1", "Ensure this value is greater than or equal to 0."),
        ("JOB_RETRY_SECONDS", "", "Enter at least one number."),
    ],
)
def test_a_default_out_of_bounds_stops_every_process_at_its_start(
    tmp_path: Path, variable: str, text: str, sentence: str
) -> None:
    """Also the web process, which runs no checks. Red without `refuse_defaults`."""
    script = "import django; django.setup()"
    ran = run(tmp_path, "-c", script, **NEEDED, DJANGO_SETTINGS_MODULE="phpborg.settings", **{variable: text})
    assert ran.returncode == 1
    assert f"ImproperlyConfigured: {variable}: {sentence}" in ran.stderr


# --- What is safe by itself -----------------------------------------------------------------------


def test_the_content_security_policy_has_nothing_unsafe(tmp_path: Path) -> None:
    [policy] = read(tmp_path, "CONTENT_SECURITY_POLICY", **NEEDED)
    assert "unsafe" not in json.dumps(policy)


def test_cookies_are_not_for_scripts_or_other_sites(tmp_path: Path) -> None:
    assert read(tmp_path, "SESSION_COOKIE_SAMESITE", "CSRF_COOKIE_SAMESITE", "CSRF_COOKIE_HTTPONLY", **NEEDED) == [
        "Lax", "Lax", True,
    ]  # fmt: skip


def test_passwords_are_kept_with_argon2(tmp_path: Path) -> None:
    [hashers] = read(tmp_path, "PASSWORD_HASHERS", **NEEDED)
    assert hashers[0].endswith("Argon2PasswordHasher")


def test_no_migration_is_missing(tmp_path: Path) -> None:
    ran = run(tmp_path, "manage.py", "makemigrations", "--check", "--dry-run", **NEEDED)
    assert ran.returncode == 0, ran.stdout
