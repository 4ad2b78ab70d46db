"""Where a row's own page is. Kept: a list asks for two hundred such addresses, and Django works each out anew."""

from functools import lru_cache

from django.urls import reverse


@lru_cache(maxsize=20_000)
def page_of(name: str, key: object) -> str:
    """As `reverse`, of a page whose address has one key in it."""
    return reverse(name, args=[key])
