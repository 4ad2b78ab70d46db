"""deploy/env.example: complete, and what it shows as defaults are the defaults."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.deploy import DEPLOY, ROOT
from tests.phpborg.test_settings import NEEDED, run

LINE = re.compile(r"#?([A-Z_]+)=(.*)")
DEMO = {"DEMO_PATH", "PYTHONDONTWRITEBYTECODE"}  # of `make demo` alone
PYTHON = {"DJANGO_SETTINGS_MODULE", "PATH"}
# Of the live settings their defaults: the sentences beside them are translated, which needs all of Django.
PRINTED = """
import phpborg.settings as s
found = {n: v for n, v in vars(s).items() if n.isupper() and n != "ENV"}
live = {n: repr(v[0]) for n, v in found["CONSTANCE_CONFIG"].items()}
found = {n: v for n, v in found.items() if not n.startswith("CONSTANCE_") and n not in ("LANGUAGES", "TYPED")}
print(live | {n: repr(v) for n, v in found.items()})
"""


def shown() -> dict[str, str]:
    lines = (DEPLOY / "env.example").read_text().splitlines()
    return {match[1]: match[2] for line in lines if (match := LINE.fullmatch(line))}


def asked_for() -> Iterator[str]:
    """Every variable whose name stands in our code."""
    for app in ("accounts", "alerts", "backups", "jobs", "phpborg", "servers"):
        for path in (ROOT / app).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                name, what = None, ""
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                    name, what = node.args[0], ast.unparse(node.func)
                elif isinstance(node, ast.Subscript):
                    name, what = node.slice, f"{ast.unparse(node.value)}.item"
                if isinstance(name, ast.Constant) and re.fullmatch(r"(env|os\.environ)\.\w+", what):
                    yield str(name.value)


def test_it_names_every_variable_that_is_read_and_no_other() -> None:
    """Red with a variable that stands in settings.py alone, or in the example alone."""
    assert set(shown()) == set(asked_for()) - DEMO - PYTHON


def test_every_variable_stands_in_the_readme_too() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in shown() if f"`{name}`" not in readme] == []


def test_what_it_shows_are_the_defaults(tmp_path: Path) -> None:
    """Red with another number in the example, as JOB_KEEP_DAYS=366."""
    # A set's order is that of its names' hashes.
    fixed = {"DJANGO_SETTINGS_MODULE": "phpborg.settings", "PYTHONHASHSEED": "0", **NEEDED}
    given = {name: value for name, value in shown().items() if value and name not in NEEDED}
    without, with_them = (run(tmp_path, "-c", PRINTED, **fixed, **more) for more in ({}, given))
    assert (without.returncode, with_them.returncode) == (0, 0), with_them.stderr
    before, after = ast.literal_eval(without.stdout), ast.literal_eval(with_them.stdout)
    assert {name: (before[name], after[name]) for name in before if before[name] != after[name]} == {}


def test_nothing_in_it_needs_quotes() -> None:
    """systemd, compose and deploy/phpborg read quotes, backslashes and $ each in their own way."""
    assert [value for value in shown().values() if set(value) & set("\"'\\$#")] == []


def test_it_holds_no_secret() -> None:
    secret = [name for name in shown() if re.search("KEY|PASSWORD|TOKEN", name)]
    assert len(secret) > 4
    assert [shown()[name] for name in secret if shown()[name]] == []
