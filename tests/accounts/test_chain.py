"""The chain of the audit trail: what somebody alters, removes or moves behind its back is noticed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import audit, chain, encryption
from accounts.models import AppendOnly, AuditEntry, AuditHead, User
from tests.conftest import make_user

# As whoever can write to the database does it, past the model that refuses it.
ENTRIES = AuditEntry._base_manager


def written(number: int = 6) -> list[AuditEntry]:
    for each in range(number):
        audit.record("server.changed", username="ada", target=f"web-{each}", detail={"before": {"port": each}})
    return list(AuditEntry.objects.order_by("number"))


def verified(*arguments: str) -> str:
    """What the command says: of a trail that is whole, or why it is not."""
    said = StringIO()
    try:
        call_command("verify_audit", *arguments, stdout=said)
    except CommandError as error:
        return str(error) if error.returncode == 1 else repr(error)
    return said.getvalue()


def test_a_trail_is_whole_as_it_is_written(db: None) -> None:
    entries = written()
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert verified() == f"6 entries are whole.\n6:{entries[-1].digest}\n"


def test_nothing_is_whole_too(db: None) -> None:
    audit.record("x")  # the head is there from now on, as it is in every database that was migrated
    assert verified().startswith("1 entry is whole.")


@pytest.mark.parametrize(
    "change",
    [
        {"username": "otto"}, {"target": "db-1"}, {"action": "server.deleted"}, {"address": "203.0.113.9"},
        {"detail": {"before": {"port": 2222}}}, {"at": timezone.now()}, {"user_id": 4711}, {"digest": "0" * 64},
    ],
)  # fmt: skip
def test_an_entry_that_was_altered_is_named(db: None, change: dict[str, Any]) -> None:
    """Red without that field in the digest."""
    written()
    ENTRIES.filter(number=4).update(**change)
    assert verified() == "Entry 4 is not as it was written. 3 entries are whole."


def test_an_entry_that_is_gone_is_named(db: None) -> None:
    written()
    ENTRIES.filter(number=3).delete()
    assert verified() == "Entry 3 is missing. 2 entries are whole."


def test_several_that_are_gone_are_named(db: None) -> None:
    written()
    ENTRIES.filter(number__in=(1, 2, 3)).delete()
    assert verified() == "Entries 1 to 3 are missing. 0 entries are whole."


def test_closing_the_gap_does_not_help(db: None) -> None:
    """Red when neither the number nor the predecessor is in the digest."""
    written()
    ENTRIES.filter(number=3).delete()
    for number in (4, 5, 6):
        ENTRIES.filter(number=number).update(number=number - 1)
    assert verified() == "Entry 3 is not as it was written. 2 entries are whole."


def test_two_that_were_swapped_are_noticed(db: None) -> None:
    written()
    for number, new in ((2, 99), (3, 2), (99, 3)):
        ENTRIES.filter(number=number).update(number=new)
    assert verified() == "Entry 2 is not as it was written. 1 entry is whole."


def test_an_entry_of_another_past_does_not_fit(db: None) -> None:
    """Red without the predecessor in the digest: by itself it is genuine, and has the right number."""
    written(3)
    head = AuditHead.objects.get()
    audit.record("what.was", target="before the backup was restored")
    other = ENTRIES.get(number=4)
    ENTRIES.filter(number=4).delete()
    head.save()
    written(2)
    assert verified().startswith("5 entries are whole.")
    ENTRIES.filter(number=4).update(at=other.at, username="", action=other.action, target=other.target, detail={},
                                    digest=other.digest)  # fmt: skip
    assert verified() == "Entry 5 is not as it was written. 4 entries are whole."


def test_the_last_ones_that_are_gone_are_noticed(db: None) -> None:
    """Red without the look at the head."""
    written()
    ENTRIES.filter(number__gt=4).delete()
    assert verified() == "Entries 5 to 6 are missing. 4 entries are whole."


def test_the_head_that_was_set_back_is_noticed(db: None) -> None:
    """Red without the head's seal: its number and digest stand in the last entry that is left."""
    entries = written()
    ENTRIES.filter(number__gt=4).delete()
    AuditHead.objects.update(number=4, digest=entries[3].digest)
    assert verified().startswith("The head of the trail is not as it was written")


def test_whoever_cuts_it_off_cannot_have_it_grow_over(db: None) -> None:
    """Red when the next entry is written whatever the head says: it would seal the cut."""
    entries = written()
    ENTRIES.filter(number__gt=4).delete()
    AuditHead.objects.update(number=4, digest=entries[3].digest)
    audit.record("login", username="ada")
    assert list(AuditEntry.objects.order_by("number").values_list("number", "action"))[4:] == [
        (5, chain.BROKEN), (6, "login"),
    ]  # fmt: skip
    assert verified() == (
        "Before entry 5 somebody had changed the head: what stood behind entry 4 may be missing. 4 entries are whole."
    )


def test_a_head_that_was_deleted_is_noticed_before_and_after_the_next_entry(db: None) -> None:
    written()
    AuditHead.objects.all().delete()
    assert verified().startswith("The head of the trail is missing")
    audit.record("login", username="ada")
    assert verified().startswith("Before entry 7 somebody had changed the head")


def test_who_noted_the_head_elsewhere_notices_what_the_head_cannot_tell(db: None) -> None:
    """Red without --expect: an old head with its seal is as good as new."""
    entries, old = written(), AuditHead.objects.get()
    written(2)
    noted = f"8:{AuditEntry.objects.latest('number').digest}"
    assert verified("--expect", noted).startswith("8 entries are whole.")
    ENTRIES.filter(number__gt=6).delete()
    old.save()
    assert verified().startswith("6 entries are whole.")
    assert verified("--expect", noted) == "Entries 7 to 8 are missing. 6 entries are whole."
    assert verified("--expect", f"6:{entries[-1].digest}").startswith("6 entries are whole.")
    assert verified("--expect", f"5:{entries[-1].digest}") == (
        "Entry 5 has another digest than the one that was noted. 4 entries are whole."
    )


@pytest.mark.parametrize("text", ["6", "6:abc", "0:" + "a" * 64, "x:" + "a" * 64, ":"])
def test_what_cannot_have_been_noted_is_a_wrong_use(db: None, text: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("verify_audit", "--expect", text)
    assert refused.value.returncode == 2


def test_without_the_key_nobody_forges_one(db: None, settings: Any) -> None:
    """Red with a digest that has no key: whoever has the database could compute it."""
    written()
    ours = settings.ENCRYPTION_KEYS
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    entry = ENTRIES.get(number=3)
    entry.username = "otto"
    before = ENTRIES.get(number=2).digest
    ENTRIES.filter(number=3).update(
        username="otto", digest=chain.digest_of(entry, before, encryption.chaining_keys()[0])
    )
    settings.ENCRYPTION_KEYS = ours
    assert verified() == "Entry 3 is not as it was written. 2 entries are whole."


def test_a_new_key_goes_on_where_the_old_one_ended(db: None, settings: Any) -> None:
    written(3)
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.ENCRYPTION_KEYS]
    written(3)
    assert verified().startswith("6 entries are whole.")
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    assert verified() == "Entry 1 is not as it was written. 0 entries are whole."


# --- What must not break it -----------------------------------------------------------------------


def test_who_is_deleted_stays_in_it(viewer: User) -> None:
    """Red when the entry's user is set to NULL."""
    number = viewer.pk
    audit.record("x", user=viewer)
    viewer.delete()
    entry = AuditEntry.objects.get()
    assert (entry.user_id, entry.username) == (number, "vera")
    assert verified().startswith("1 entry is whole.")


@pytest.mark.parametrize("address", ["::FFFF:203.0.113.5", "2001:DB8:0:0::1", "203.0.113.5"])
def test_what_the_database_writes_otherwise_is_the_same(db: None, rf: Any, address: str) -> None:
    """Red when the address is taken into the digest as it was said."""
    request = rf.get("/", REMOTE_ADDR=address)
    request.user = None
    audit.record("x", request=request, target="a  ", detail={"b": (1, 2), "c": 0.1, "ü": "\x00 “’", "a": None})
    assert verified().startswith("1 entry is whole.")


def test_a_transaction_that_is_rolled_back_leaves_no_gap_and_no_phantom(db: None) -> None:
    written(2)

    def fails() -> None:
        with transaction.atomic():
            audit.record("never")
            raise IntegrityError

    with pytest.raises(IntegrityError):
        fails()
    audit.record("then")
    assert list(AuditEntry.objects.order_by("number").values_list("number", "action"))[2:] == [(3, "then")]
    assert verified().startswith("3 entries are whole.")


def test_an_entry_costs_three_queries_however_long_the_trail_is(db: None) -> None:
    written(1)
    for _ in range(2):
        with CaptureQueriesContext(connection) as caught:
            audit.record("x", target="web-1")
        assert len(caught) == 3, [query["sql"] for query in caught]
        written(20)


def test_many_at_once_cost_as_little(db: None) -> None:
    written(1)
    with CaptureQueriesContext(connection) as caught:
        chain.append(*(audit.entry_of("x", target=str(number)) for number in range(50)))
    assert len(caught) == 3
    assert verified().startswith("51 entries are whole.")


def test_no_more_is_in_memory_than_a_batch(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    written(7)
    monkeypatch.setattr(chain, "ROWS_AT_ONCE", 3)
    with CaptureQueriesContext(connection) as caught:
        assert verified().startswith("7 entries are whole.")
    assert sum("LIMIT 3" in query["sql"] for query in caught) == 4


def test_the_model_refuses_to_change_or_delete_one(db: None) -> None:
    (entry,) = written(1)
    refused: list[Callable[[], object]] = [
        entry.save, entry.delete, AuditEntry.objects.all().delete, lambda: AuditEntry.objects.update(username="x"),
        lambda: AuditEntry.objects.bulk_update([entry], ["username"]), lambda: AuditEntry.objects.create(action="x"),
    ]  # fmt: skip
    for act in refused:
        with pytest.raises(AppendOnly):
            act()


# --- Many at once ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_many_writers_make_one_chain() -> None:
    """Red without the lock on the head (`select_for_update`, or IMMEDIATE): two take the same number.

    Half of them give up at the end of their transaction, and leave nothing.
    """
    written(1)
    threads, each = 8, 10
    gate, lost = threading.Barrier(threads), []

    def write(me: int) -> None:
        try:
            gate.wait(30)
            for number in range(each):
                with transaction.atomic():
                    audit.record("x", username=f"u{me}", target=str(number))
                    transaction.set_rollback(me % 2 == 1)
        except DatabaseError as error:
            lost.append(error)
        finally:
            connections.close_all()

    writers = [threading.Thread(target=write, args=(me,)) for me in range(threads)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert lost == []
    assert AuditEntry.objects.count() == 1 + threads // 2 * each
    assert verified().startswith(f"{1 + threads // 2 * each} entries are whole.")


@pytest.mark.django_db(transaction=True)
def test_the_first_of_all_may_be_several() -> None:
    """Red without `get_or_create` of the head, where somebody has deleted it and the whole trail.

    Of several who wait for each other there MariaDB may end one: that one has written nothing.
    """
    AuditHead.objects.all().delete()
    gate, lost = threading.Barrier(4), []

    def write() -> None:
        try:
            gate.wait(30)
            audit.record("x")
        except DatabaseError as error:
            lost.append(error)
        finally:
            connections.close_all()

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert len(lost) < (4 if connection.vendor == "mysql" else 1)
    number = 4 - len(lost)
    assert verified().startswith("1 entry is whole." if number == 1 else f"{number} entries are whole.")


@pytest.mark.django_db(transaction=True)
def test_it_is_verified_while_others_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when the head is only read at the end, or only at the beginning."""
    written(5)
    walked = chain.walked

    def meanwhile(**which: Any) -> Any:
        for entry in walked(**which):
            if entry.number in (1, 5):
                audit.record("meanwhile")
            yield entry

    monkeypatch.setattr(chain, "walked", meanwhile)
    assert verified().startswith("7 entries are whole.")


# --- What was there before ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_trail_from_before_the_chain_is_chained_and_comes_back() -> None:
    """There and back, on rows with gaps, with and without a user, one of whom is gone by the time of the way back."""
    before, graph = [("accounts", "0003_api_tokens")], MigrationExecutor(connection).loader.graph
    now = graph.leaf_nodes()
    MigrationExecutor(connection).migrate(before)
    try:
        old = MigrationExecutor(connection).loader.project_state(before).apps
        model, users = old.get_model("accounts", "AuditEntry"), old.get_model("accounts", "User")
        stays, goes = (users.objects.create(username=name) for name in ("ada", "gus"))
        model.objects.bulk_create(
            model(action="x", user=(stays, goes, None)[n % 3], address="2001:db8::1", detail={"n": n, "text": "“é”"})
            for n in range(5_000)
        )
        model.objects.filter(pk__in=list(model.objects.values_list("pk", flat=True)[7:9])).delete()
    finally:
        MigrationExecutor(connection).migrate(now)
    assert AuditEntry.objects.count() == 4_998
    assert verified().startswith("4,998 entries are whole.")
    User.objects.get(username="gus").delete()
    audit.record("login", user=make_user("nina", "ROLE_VIEWER"))
    assert verified().startswith("4,999 entries are whole.")
    MigrationExecutor(connection).migrate(before)
    try:
        assert model.objects.filter(user=None).count() > 3_000  # those of nobody, and of who is gone
        assert model.objects.filter(user=stays.pk).exists()
    finally:
        MigrationExecutor(connection).migrate(now)
    assert verified().startswith("4,999 entries are whole.")
