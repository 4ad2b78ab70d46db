import secrets
from hashlib import sha256
from typing import ClassVar, Self

from django.db import models
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts.models import User


class FirstRun(models.Model):
    """How far the first run has come, in its one row. Without one whoever is here came in by another way."""

    STEPS: ClassVar[tuple[str, ...]] = ("site", "pool", "mail", "server")  # after the first account

    # Of the newest token. 128 random bits cannot be guessed, so it needs no slow hash. "": used.
    token_sha256 = models.CharField(max_length=64, blank=True)
    passed = models.JSONField(default=list)  # the steps that are behind
    finished_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"first run, {self.finished_at or self.step}"

    @classmethod
    def begin(cls) -> str:
        """Make a token, and return it; nobody can read it again, and an earlier one opens nothing any more."""
        token = secrets.token_hex(16)
        cls.objects.update_or_create(pk=1, defaults={"token_sha256": sha256(token.encode()).hexdigest()})
        return token

    @classmethod
    def under_way(cls) -> Self | None:
        """The one that waits for its token, or for its next step."""
        return cls.objects.filter(finished_at=None).first()

    @property
    def waits_for_its_token(self) -> bool:
        return bool(self.token_sha256) and not User.objects.exists()

    def fits(self, token: str) -> bool:
        shown = sha256(token.strip().encode("utf-8", "replace")).hexdigest()
        return bool(self.token_sha256) and constant_time_compare(self.token_sha256, shown)

    @property
    def step(self) -> str:
        return next((step for step in self.STEPS if step not in self.passed), self.STEPS[-1])

    def go_on(self, step: str) -> None:
        """Put `step` behind; with the last one all of it is over, for good."""
        if step not in self.passed:
            self.passed = [*self.passed, step]
        if set(self.passed) >= set(self.STEPS):
            self.finished_at = timezone.now()
        self.save(update_fields=["passed", "finished_at"])
