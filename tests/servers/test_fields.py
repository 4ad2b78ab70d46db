"""What may stand in the fields of a server: the same for the page and for the API."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry
from jobs.models import Job
from servers.models import Server, Tag
from tests.conftest import for_program
from tests.servers.conftest import answers, body

pytestmark = pytest.mark.django_db

NAME = "Use letters, digits, dots, dashes and underscores, and begin with a letter or digit."
ADDRESS = "Enter a host name or an IP address, nothing else."
USERNAME = "This is not a name that a Unix user can have."
REQUIRED = ("This field is required.", "This field may not be blank.")

BAD: list[tuple[str, Any, str]] = [
    ("name", 'we"b', NAME),
    ("name", "we'b", NAME),
    ("name", "web\n1", NAME),
    ("name", "web 1", NAME),
    ("name", "--option", NAME),
    ("name", "$(reboot)", NAME),
    ("name", "`id`", NAME),
    ("name", "../web", NAME),
    ("name", ".hidden", NAME),
    ("name", "<script>alert(1)</script>", NAME),
    ("name", "wéb", NAME),
    ("name", "x" * 61, "60 characters"),
    ("name", "x" * 10_000, "60 characters"),
    ("name", "", "required|blank"),
    ("name", "   ", "required|blank"),
    ("name", "web\0", "Null characters are not allowed."),
    ("address", "", "required|blank"),
    ("address", "web 1", ADDRESS),
    ("address", "web;reboot", ADDRESS),
    ("address", "$(reboot)", ADDRESS),
    ("address", "`reboot`", ADDRESS),
    ("address", "a|b", ADDRESS),
    ("address", "a\nb", ADDRESS),
    ("address", "-oProxyCommand=reboot", ADDRESS),
    ("address", "root@web-1", ADDRESS),
    ("address", "web-1:22", ADDRESS),
    ("address", "[2001:db8::1]", ADDRESS),
    ("address", "2001:db8::g", ADDRESS),
    ("address", "https://web-1/", ADDRESS),
    ("address", "a..b", ADDRESS),
    ("address", ".example.com", ADDRESS),
    ("address", "web-.example.com", ADDRESS),
    ("address", "a" * 64 + ".example", ADDRESS),
    ("address", "wéb.example", ADDRESS),
    ("address", "fe80::1%$(reboot)", ADDRESS),
    ("address", "fe80::1%eth0\nx", ADDRESS),
    ("address", "a." * 127, "253 characters|" + ADDRESS),
    ("address", "a." * 5_000, "253 characters"),
    ("port", "0", "greater than or equal to 1."),
    ("port", "-1", "greater than or equal to 0.|greater than or equal to 1."),
    ("port", "65536", "less than or equal to 65535."),
    ("port", "9" * 30, "less than or equal to 65535."),
    ("port", "ssh", "whole number|valid integer"),
    ("port", "22.5", "whole number|valid integer"),
    ("username", "", "required|blank"),
    ("username", "two words", USERNAME),
    ("username", "root;id", USERNAME),
    ("username", "$USER", USERNAME),
    ("username", "-l", USERNAME),
    ("username", "root\nALL", USERNAME),
    ("username", "ALL=(root) ALL", USERNAME),
    ("username", "x" * 65, "64 characters"),
]
GOOD = [
    ("name", "7"),
    ("name", "Web-1.example_com"),
    ("name", "x" * 60),
    ("address", "192.0.2.1"),
    ("address", "2001:db8::1"),
    ("address", "::1"),
    ("address", "fe80::1%eth0"),
    ("address", "localhost"),
    ("address", "web_1.internal"),
    ("address", "web-1.example.com."),
    ("address", ".".join(["a" * 62] * 4)),
    ("port", "1"),
    ("port", "65535"),
    ("username", "_borg"),
    ("username", "sam$"),
    ("username", "first.last-1"),
]
BAD_TAGS = [
    ([f"tag{number}" for number in range(21)], "These are more than 20 tags."),
    (["x" * 41], "is too long for a tag.|40 characters"),
    (["a;b"], NAME),
    (["<b>"], NAME),
    (["--x"], NAME),
]


def says(errors: Any, expected: str) -> bool:
    return any(part in str(errors) for part in expected.split("|"))


def nothing_was_made() -> bool:
    return not (
        Server.objects.exists()
        or Tag.objects.exists()
        or Job.objects.exists()
        or AuditEntry.objects.filter(action="server.added").exists()
    )


@pytest.mark.parametrize(("field", "value", "sentence"), BAD)
def test_the_page_refuses_it_in_words_at_the_field(as_admin: Client, field: str, value: Any, sentence: str) -> None:
    answer = as_admin.post("/servers/add", answers(**{field: value}))
    assert answer.status_code == 400
    assert set(answer.context["form"].errors) == {field}
    assert says(answer.context["form"].errors[field], sentence)
    assert nothing_was_made()


@pytest.mark.parametrize(("field", "value", "sentence"), BAD)
def test_the_api_refuses_it_in_words_at_the_field(api_admin: APIClient, field: str, value: Any, sentence: str) -> None:
    answer = api_admin.post("/api/servers", body(**{field: for_program(field, value)}))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "invalid"
    assert set(error["fields"]) == {field}
    assert says(error["fields"][field], sentence)
    assert nothing_was_made()


@pytest.mark.parametrize(("field", "value"), GOOD)
def test_the_page_takes_it_as_it_stands(as_admin: Client, field: str, value: str) -> None:
    assert as_admin.post("/servers/add", answers(**{field: value})).status_code == 302
    assert str(getattr(Server.objects.get(), field)) == value


@pytest.mark.parametrize(("field", "value"), GOOD)
def test_the_api_takes_it_as_it_stands(api_admin: APIClient, field: str, value: str) -> None:
    assert api_admin.post("/api/servers", body(**{field: for_program(field, value)})).status_code == 201
    assert str(getattr(Server.objects.get(), field)) == value


@pytest.mark.parametrize(("tags", "sentence"), BAD_TAGS)
def test_the_page_refuses_odd_tags_in_words(as_admin: Client, tags: list[str], sentence: str) -> None:
    answer = as_admin.post("/servers/add", answers(tags=", ".join(tags)))
    assert answer.status_code == 400
    assert says(answer.context["form"].errors["tags"], sentence)
    assert nothing_was_made()


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [*BAD_TAGS, ("web", "must be a list"), (["web", ["db"]], "2: This must be a text."), ([None], "null")],
)
def test_the_api_refuses_odd_tags_in_words(api_admin: APIClient, tags: Any, sentence: str) -> None:
    answer = api_admin.post("/api/servers", body(tags=tags))
    assert answer.status_code == 400
    assert says(answer.json()["error"]["fields"]["tags"], sentence)
    assert nothing_was_made()


@pytest.mark.parametrize("name", ["web-1", " web-1 "])
def test_two_servers_cannot_have_one_name(as_admin: Client, api_admin: APIClient, server: Server, name: str) -> None:
    page = as_admin.post("/servers/add", answers(name=name))
    api = api_admin.post("/api/servers", body(name=name))
    assert (page.status_code, api.status_code) == (400, 400)
    assert says(page.context["form"].errors["name"], "already exists.")
    assert says(api.json()["error"]["fields"]["name"], "already exists.")
    assert list(Server.objects.all()) == [server]


def test_what_is_wrong_is_shown_again_escaped(as_admin: Client) -> None:
    html = as_admin.post("/servers/add", answers(name='"><script>x</script>')).getvalue().decode()
    assert "<script>x" not in html
    assert "&quot;&gt;&lt;script&gt;x&lt;/script&gt;" in html
    assert 'class="form-control is-invalid"' in html


def test_everything_missing_is_said_at_each_field(api_admin: APIClient) -> None:
    answer = api_admin.post("/api/servers", {})
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {"name", "address"}


@pytest.mark.parametrize("sent", ["[]", '"web"', "7", "null", "{", ""])
def test_a_body_that_is_no_object_is_a_bad_request(api_admin: APIClient, sent: str) -> None:
    answer = api_admin.post("/api/servers", sent, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("invalid", "parse_error")
