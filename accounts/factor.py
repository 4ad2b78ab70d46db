"""The second factor: the code that an authenticator app shows now (TOTP, RFC 6238), or one of ten recovery codes.

The sums are done by cryptography, which is here already. django-otp was the other choice: it stores keys and recovery
codes readable, and its throttle counts by account, so whoever knows the password could keep its owner out.
"""

import base64
import secrets
import time
from hashlib import sha256

import segno
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _

from accounts import audit
from accounts.access import signed_in
from accounts.encryption import decrypt, encrypt
from accounts.errors import Conflict, NotAllowed
from accounts.models import RecoveryCode, RoleRule, SecondFactor, User
from accounts.people import ADMINISTRATORS, beyond, refuse_beyond
from accounts.throttle import FAILED, refuse_impatient

ISSUER = "phpBorg"
KEY_BYTES, DIGITS, STEP_SECONDS = 20, 6, 30  # what every app can; some ignore anything else
AROUND = (0, -1, 1)  # steps by which clocks may differ
RECOVERY_CODES = 10
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # none that looks like another one
LENGTH = 16  # 80 bits: nothing that a slow hash would have to protect


def is_set_up(user: User) -> bool:
    return SecondFactor.objects.filter(user=user).exclude(confirmed_at=None).exists()


def is_required(user: User) -> bool:
    """Whether one of the user's roles asks for it."""
    rules = RoleRule.objects.filter(needs_factor=True)
    of_theirs = rules.filter(role__user=user) | (
        rules.filter(role__name=ADMINISTRATORS) if user.is_superuser else rules.none()
    )
    return of_theirs.exists()


@transaction.atomic
def require_of(role: Group, request: audit.AnyRequest, *, needs_factor: bool) -> None:
    """Whoever has the role is led to set one up at their next login. Raises NotAllowed."""
    if more := beyond(signed_in(request), [role]):
        raise NotAllowed(_("You may not do this yourself: %(names)s.") % {"names": ", ".join(more)})
    rule, _made = RoleRule.objects.get_or_create(role=role)
    before = audit.facts(rule)
    rule.needs_factor = needs_factor
    rule.save(update_fields=["needs_factor"])
    audit.record_change("role.changed", rule, before, request=request, target=role.name)


# --- Setting it up --------------------------------------------------------------------------------


def begin(user: User) -> SecondFactor:
    """A new key, which counts from the first right code on. Raises Conflict if there is one that counts."""
    if is_set_up(user):
        raise Conflict(_("There is a second factor already. Remove it first."))
    factor, _made = SecondFactor.objects.update_or_create(
        user=user, defaults={"key_encrypted": encrypt(secrets.token_hex(KEY_BYTES)), "last_step": 0}
    )
    return factor


def address_of(factor: SecondFactor) -> str:
    """For the app, as a QR code."""
    return _totp(factor).get_provisioning_uri(factor.user.username, ISSUER)


def picture_of(factor: SecondFactor) -> str:
    """The same as an SVG image."""
    code = segno.make(address_of(factor), micro=False, error="m")
    return mark_safe(code.svg_inline(omitsize=True, dark="#000", light="#fff", svgclass="qr"))  # noqa: S308


def typed(factor: SecondFactor) -> str:
    """The key for whoever has no camera, in base32 as apps take it."""
    text = base64.b32encode(bytes.fromhex(decrypt(factor.key_encrypted))).decode()
    return " ".join(text[first : first + 4] for first in range(0, len(text), 4))


@transaction.atomic
def confirm(user: User, code: str, request: audit.AnyRequest) -> list[str]:
    """Let the key that was begun count; the recovery codes, which nobody can read again. Raises ValidationError."""
    factor = SecondFactor.objects.filter(user=user, confirmed_at=None).first()
    if factor is None or not _is_of_now(factor, _plain(code)):
        raise ValidationError(_("This is not the code that the app shows now."), code="wrong")
    SecondFactor.objects.filter(pk=factor.pk).update(confirmed_at=timezone.now())
    codes = _new_codes(user)
    audit.record("factor.set_up", request=request, user=user, target=user.username)
    return codes


@transaction.atomic
def renew_codes(user: User, request: audit.AnyRequest) -> list[str]:
    """New recovery codes; the old ones open nothing any more."""
    codes = _new_codes(user)
    audit.record("factor.codes_made", request=request, user=user, target=user.username)
    return codes


def codes_left(user: User) -> int:
    return RecoveryCode.objects.filter(user=user, used_at=None).count()


def _new_codes(user: User) -> list[str]:
    codes = ["".join(secrets.choice(LETTERS) for _ in range(LENGTH)) for _ in range(RECOVERY_CODES)]
    RecoveryCode.objects.filter(user=user).delete()
    RecoveryCode.objects.bulk_create([RecoveryCode(user=user, sha256=_digest(user, code)) for code in codes])
    return ["-".join(code[first : first + 4] for first in range(0, LENGTH, 4)) for code in codes]


# --- Taking it away -------------------------------------------------------------------------------


@transaction.atomic
def remove(user: User, *, request: audit.AnyRequest | None = None, action: str = "factor.removed") -> bool:
    """Key and recovery codes are gone; False if there were none. Who must have one sets it up at the next login."""
    RecoveryCode.objects.filter(user=user).delete()
    number, _rows = SecondFactor.objects.filter(user=user).delete()
    if number:
        audit.record(action, request=request, target=user.username)
    return bool(number)


def reset(user: User, request: audit.AnyRequest) -> bool:
    """`remove`, of somebody who lost theirs. Raises NotAllowed, Conflict."""
    me = signed_in(request)
    if user == me:
        raise Conflict(_("You remove your own second factor on your profile, with your password."))
    refuse_beyond(me, user)
    return remove(user, request=request, action="factor.reset")


# --- Showing it -----------------------------------------------------------------------------------


def check(user: User, code: str, request: HttpRequest) -> None:
    """Raise ValidationError unless `user` has this code; wrong ones count as wrong passwords do."""
    refuse_impatient(user.username, request)
    if not accepts(user, code):
        audit.record(FAILED, request=request, username=user.username, detail={"second_factor": True})
        raise ValidationError(_("This code is wrong, or was used already."), code="wrong")


def accepts(user: User, code: str) -> bool:
    """Whether it is the code of now or a recovery code; each is good once."""
    code = _plain(code)
    factor = SecondFactor.objects.filter(user=user).exclude(confirmed_at=None).first()
    return factor is not None and (_is_of_now(factor, code) or _is_for_recovery(user, code))


def _is_of_now(factor: SecondFactor, code: str) -> bool:
    now = int(time.time()) // STEP_SECONDS
    totp = _totp(factor)
    for step in (now + offset for offset in AROUND):
        if constant_time_compare(totp.generate(step * STEP_SECONDS).decode(), code):
            # Of two who show the same code at once one is right: the row counts.
            return bool(SecondFactor.objects.filter(pk=factor.pk, last_step__lt=step).update(last_step=step))
    return False


def _is_for_recovery(user: User, code: str) -> bool:
    unused = RecoveryCode.objects.filter(user=user, sha256=_digest(user, code), used_at=None)
    return bool(unused.update(used_at=timezone.now()))


def _totp(factor: SecondFactor) -> TOTP:
    return TOTP(bytes.fromhex(decrypt(factor.key_encrypted)), DIGITS, SHA1(), STEP_SECONDS)  # noqa: S303 - RFC 6238's


def _plain(code: str) -> str:
    """As people type it."""
    return code.replace(" ", "").replace("-", "").upper()[:64]


def _digest(user: User, code: str) -> str:
    return sha256(f"{user.pk}:{code}".encode()).hexdigest()
