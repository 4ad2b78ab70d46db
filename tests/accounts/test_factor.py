"""The second factor by itself: codes, each good once, and what is stored of them."""

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import RequestFactory

from accounts import factor, throttle
from accounts.access import Permission
from accounts.encryption import decrypt
from accounts.errors import Conflict, NotAllowed
from accounts.models import AuditEntry, RecoveryCode, SecondFactor, User
from tests.conftest import holder, make_user

NOW = 1_800_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the time: `clock(seconds after NOW)`."""

    def at(seconds: int) -> None:
        monkeypatch.setattr(factor, "time", SimpleNamespace(time=lambda: NOW + seconds))

    at(0)
    return at


def asked_by(user: User) -> Any:
    request = RequestFactory().get("/")
    request.user = user
    return request


def code_of(user: User, seconds: int = 0) -> str:
    """What the app shows then."""
    return factor._totp(SecondFactor.objects.get(user=user)).generate(NOW + seconds).decode()


@pytest.fixture
def vera(viewer: User, clock: Any) -> User:
    """With a second factor, set up a minute ago."""
    clock(-60)
    factor.begin(viewer)
    factor.confirm(viewer, code_of(viewer, -60), asked_by(viewer))
    clock(0)
    return viewer


def test_the_sums_are_those_of_the_rfc(viewer: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 6238, appendix B, the last six of its eight digits."""
    monkeypatch.setattr(factor, "decrypt", lambda _: b"12345678901234567890".hex())
    totp = factor._totp(SecondFactor(user=viewer, key_encrypted=""))
    found = [totp.generate(at).decode() for at in (59, 1111111109, 1234567890, 20000000000)]
    assert found == ["287082", "081804", "005924", "353130"]


def test_nothing_counts_before_the_first_right_code(viewer: User, clock: Any) -> None:
    """Red without confirmed_at: who closed the page too early would be locked out."""
    factor.begin(viewer)
    assert not factor.is_set_up(viewer)
    assert not factor.accepts(viewer, code_of(viewer))
    with pytest.raises(ValidationError):
        factor.confirm(viewer, "000000" if code_of(viewer) != "000000" else "000001", asked_by(viewer))
    assert not factor.is_set_up(viewer)
    assert len(factor.confirm(viewer, code_of(viewer), asked_by(viewer))) == factor.RECOVERY_CODES
    assert factor.is_set_up(viewer)


def test_a_code_is_good_once(vera: User) -> None:
    """Red without last_step: whoever looked over a shoulder had half a minute."""
    code = code_of(vera)
    assert factor.accepts(vera, f" {code[:3]} {code[3:]} ")
    assert not factor.accepts(vera, code)


def test_nor_is_an_older_one_good_after_a_newer(vera: User) -> None:
    """Red when last_step is only compared for being the same."""
    assert factor.accepts(vera, code_of(vera, 30))
    assert not factor.accepts(vera, code_of(vera, 0))


def test_clocks_may_differ_by_a_step(vera: User, clock: Any) -> None:
    clock(300)
    assert [factor.accepts(vera, code_of(vera, 300 + late)) for late in (-60, 60, -30, 0, 30)] == [
        False, False, True, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize("code", ["", "\0", "12345", "１２３４５６", "x" * 10_000, "None"])
def test_odd_codes_are_only_wrong(vera: User, code: str) -> None:
    assert not factor.accepts(vera, code)


def test_a_recovery_code_is_good_once_and_its_owner_s(vera: User, operator: User, clock: Any) -> None:
    """Red without used_at, and when the digest is of the code alone."""
    first, second, *_others = factor.renew_codes(vera, asked_by(vera))
    factor.begin(operator)
    factor.confirm(operator, code_of(operator), asked_by(operator))
    assert not factor.accepts(operator, first)
    assert [factor.accepts(vera, each) for each in (first, first, second.lower().replace("-", ""))] == [
        True,
        False,
        True,
    ]
    assert factor.codes_left(vera) == factor.RECOVERY_CODES - 2
    factor.renew_codes(vera, asked_by(vera))
    assert not factor.accepts(vera, _others[0])


def test_what_is_stored_cannot_be_read(vera: User) -> None:
    """Red when the key is stored as it is."""
    codes = factor.renew_codes(vera, asked_by(vera))
    key = decrypt(SecondFactor.objects.get().key_encrypted)
    stored = str([list(model.objects.values()) for model in (SecondFactor, RecoveryCode, AuditEntry)])
    assert len(bytes.fromhex(key)) == factor.KEY_BYTES
    for secret in (key, *codes, *(code.replace("-", "") for code in codes)):
        assert secret not in stored


def test_wrong_codes_slow_down_as_wrong_passwords_do(vera: User) -> None:
    """Red without refuse_impatient: a million codes are tried in an hour."""
    for _ in range(throttle.PER_ACCOUNT_AND_ADDRESS):
        with pytest.raises(ValidationError, match="wrong"):
            factor.check(vera, "AAAAAA", asked_by(vera))
    with pytest.raises(ValidationError, match="Too many"):
        factor.check(vera, code_of(vera), asked_by(vera))


def test_it_is_not_begun_anew_over_one_that_counts(vera: User) -> None:
    with pytest.raises(Conflict):
        factor.begin(vera)


def test_an_administrator_resets_it_for_others_alone(vera: User, admin: User) -> None:
    """Red without the look at who asks: a stolen session would get rid of it."""
    assert factor.reset(vera, asked_by(admin))
    assert (factor.is_set_up(vera), RecoveryCode.objects.filter(user=vera).count()) == (False, 0)
    entry = AuditEntry.objects.latest("number")
    assert (entry.action, entry.username, entry.target) == ("factor.reset", "ada", "vera")
    with pytest.raises(Conflict):
        factor.reset(admin, asked_by(admin))


def test_nobody_resets_it_for_who_may_do_more(admin: User, clock: Any) -> None:
    factor.begin(admin)
    with pytest.raises(NotAllowed):
        factor.reset(admin, asked_by(holder("clara", Permission.USER_MANAGE)))


def test_the_command_is_for_the_last_one(vera: User) -> None:
    call_command("reset_factor", "vera", stdout=StringIO())
    assert not factor.is_set_up(vera)
    assert AuditEntry.objects.latest("number").action == "factor.reset"
    for name in ("vera", "nobody"):
        with pytest.raises(CommandError):
            call_command("reset_factor", name, stdout=StringIO())


def test_a_role_asks_for_it(viewer: User, admin: User) -> None:
    role = Group.objects.get(name="ROLE_VIEWER")
    assert not factor.is_required(viewer)
    factor.require_of(role, asked_by(admin), needs_factor=True)
    assert (factor.is_required(viewer), factor.is_required(admin)) == (True, False)
    assert AuditEntry.objects.get(action="role.changed").detail["after"] == {"needs_factor": True}
    factor.require_of(role, asked_by(admin), needs_factor=False)
    assert not factor.is_required(viewer)


def test_a_superuser_is_an_administrator_without_the_role(admin: User) -> None:
    factor.require_of(Group.objects.get(name="ROLE_ADMIN"), asked_by(admin), needs_factor=True)
    root = make_user("root", "ROLE_VIEWER")
    User.objects.filter(pk=root.pk).update(is_superuser=True)
    assert factor.is_required(User.objects.get(pk=root.pk))
