"""The tags and filters that a mail template may use: those that read no file, call nothing, and fill no memory.

Django's own engine with nothing to load from and this library instead of its built-in ones. What a template gets
is plain: texts, numbers, lists and dictionaries (alerts/messages.py), which lead nowhere.
"""

from typing import Any

from django.template import Context, Engine, Library, TemplateSyntaxError, defaultfilters, defaulttags
from django.utils.translation import gettext as _

TAGS = (
    "autoescape",
    "comment",
    "cycle",
    "filter",
    "firstof",
    "for",
    "if",
    "ifchanged",
    "spaceless",
    "verbatim",
    "with",
)
FILTERS = (
    "capfirst", "cut", "date", "default", "escape", "first", "force_escape", "join", "last", "length", "linebreaks",
    "linebreaksbr", "lower", "pluralize", "safe", "slice", "striptags", "title", "truncatechars", "truncatewords",
    "upper", "urlencode", "yesno",
)  # fmt: skip
MOST_LOOPS = 2  # within each other
LONGEST = 200_000  # characters of what comes of it

register = Library()
register.tags = {name: defaulttags.register.tags[name] for name in TAGS}
register.filters = {name: defaultfilters.register.filters[name] for name in FILTERS}


class Sandbox(Engine):
    default_builtins = ["alerts.sandbox"]


class BadTemplate(ValueError):
    """The sentence says what is wrong."""


def render(source: str, context: dict[str, Any], *, html: bool = False) -> str:
    """What comes of a template. Raises BadTemplate."""
    try:
        template = Sandbox(dirs=[], app_dirs=False, loaders=[], autoescape=html).from_string(source)
        _refuse_depth(template.nodelist, 0)
        text = template.render(Context(context, autoescape=html))
    except TemplateSyntaxError as error:
        raise BadTemplate(_sentence(error)) from error
    except BadTemplate:
        raise
    except Exception as error:  # a filter on what it does not fit raises whatever it likes
        raise BadTemplate(_("It cannot be filled in: %(why)s") % {"why": f"{type(error).__name__}: {error}"}) from error
    if len(text) > LONGEST:
        raise BadTemplate(_("What comes of it is too long."))
    return text


def _sentence(error: TemplateSyntaxError) -> str:
    token = getattr(error, "token", None)
    if token is None:
        return str(error)
    return _("Line %(line)d: %(what)s") % {"line": token.lineno, "what": error}


def _refuse_depth(nodes: Any, depth: int) -> None:
    for node in nodes:
        within = depth + isinstance(node, defaulttags.ForNode)
        if within > MOST_LOOPS:
            raise BadTemplate(_("Loops may stand within each other %(most)d deep, no deeper.") % {"most": MOST_LOOPS})
        for name in (*node.child_nodelists, "nodelist_loop", "nodelist_empty"):
            _refuse_depth(getattr(node, name, None) or [], within)
        for _condition, inner in getattr(node, "conditions_nodelists", []):
            _refuse_depth(inner, within)
