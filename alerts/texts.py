"""The mails as we write them, in English and French; who wants them otherwise stores a MailTemplate."""

from dataclasses import dataclass
from typing import Any

from alerts.models import MailTemplate
from alerts.sandbox import render

SUBJECT_LENGTH = 200


@dataclass(frozen=True)
class Template:
    subject: str
    text: str
    html: str


SUBJECT = "[{{ severity_label }}] {{ title }}"
BODY = """{%% if kind == "test" %%}%(test)s{%% else %%}{%% for item in items %%}* {{ item.name }}
  {{ item.sentence }}{%% if item.since %%}
  %(since)s {{ item.since_local }}{%% if item.until %%}, %(until)s {{ item.until_local }}{%% endif %%}{%% endif %%}
{%% endfor %%}{%% if more %%}
%(more)s
{%% endif %%}{%% endif %%}
%(look)s {{ address }}
"""
TEXT = "{{ title }}\n\n" + BODY
HTML = """<html><body>
<h2>{{ title }}</h2>
{%% if kind == "test" %%}<p>%(test)s</p>{%% else %%}
<ul>{%% for item in items %%}
<li><b>{{ item.name }}</b><br>{{ item.sentence }}{%% if item.since %%}<br>
<small>%(since)s {{ item.since_local }}{%% if item.until %%}, %(until)s {{ item.until_local }}{%% endif %%}</small>
{%% endif %%}</li>{%% endfor %%}
</ul>
{%% if more %%}<p>%(more)s</p>{%% endif %%}{%% endif %%}
<p>%(look)s <a href="{{ address }}">{{ address }}</a></p>
</body></html>
"""
WORDS = {
    "en": {
        "test": "This channel works: phpBorg can reach you here.", "since": "since", "until": "until",
        "more": "And {{ more }} more.", "look": "All alerts:",
    },
    "fr": {
        "test": "Ce canal fonctionne : phpBorg peut vous joindre ici.", "since": "depuis", "until": "jusqu’à",
        "more": "Et {{ more }} de plus.", "look": "Toutes les alertes :",
    },
}  # fmt: skip
OURS = {language: Template(SUBJECT, TEXT % words, HTML % words) for language, words in WORDS.items()}


def template_of(language: str) -> Template:
    """As somebody has stored it, else ours."""
    stored = MailTemplate.objects.filter(language=language).first()
    return Template(stored.subject, stored.text, stored.html) if stored else OURS.get(language, OURS["en"])


def rendered(template: Template, words: dict[str, Any]) -> tuple[str, str, str]:
    """Subject, text and HTML. Raises BadTemplate."""
    subject = " ".join(render(template.subject, words).split())[:SUBJECT_LENGTH]
    return subject, render(template.text, words), render(template.html, words, html=True)


def body(language: str, words: dict[str, Any]) -> str:
    """Our text for whatever shows its title by itself."""
    return render(BODY % WORDS[language], words)
