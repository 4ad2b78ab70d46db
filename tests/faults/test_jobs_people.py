"""What people do at the wrong moment: press a button twice, and cancel in every phase of a job."""

import signal
import threading
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import User
from jobs.models import Job
from phpborg.embedded import wait_until
from servers.models import Server
from tests.conftest import page_of
from tests.faults.conftest import Start, let, log_of, wait_for, with_pid

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

CANCELLED_WITHIN_SECONDS = 15
PRESSED = 6

Slow = Callable[..., Job]


def cancel(client: Client, job: Job) -> None:
    assert client.post(f"/jobs/{job.pk}/cancel").status_code == 302


def is_cancelled(job: Job) -> Job:
    def is_so() -> bool:
        job.refresh_from_db()
        return job.status == "cancelled"

    wait_until(is_so, seconds=CANCELLED_WITHIN_SECONDS, what="The cancel")
    assert (job.holds, job.waits_for, job.not_before, job.cancel_requested_at, job.error) == (None, "", None, None, "")
    return job


# --- The button pressed twice -----------------------------------------------------------------------


def test_a_button_pressed_several_times_at_once_starts_one_job(admin: User, server: Server) -> None:
    """Without the transaction in `enqueue`, which is a lock, each finds no other job, and each makes one."""
    clients = [page_of(admin) for _ in range(PRESSED)]
    barrier, answers = threading.Barrier(PRESSED), []

    def press(client: Client) -> None:
        barrier.wait()
        answers.append(client.post(f"/jobs/start/server_test/{server.pk}"))
        connection.close()

    threads = [threading.Thread(target=press, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    job = Job.objects.get()
    assert {answer["Location"] for answer in answers} == {f"/jobs/{job.pk}"}
    page = as_text(clients)
    assert page.count("Connection test is already waiting here.") == PRESSED - 1


def as_text(clients: list[Client]) -> str:
    return "".join(client.get("/jobs").content.decode() for client in clients)


# --- Cancel, phase by phase -------------------------------------------------------------------------


@pytest.fixture
def client(operator: User) -> Client:
    return page_of(operator)


def test_cancel_while_it_waits_for_a_worker(client: Client, start: Start, slow: Slow) -> None:
    """Without the status that `perform` and `claim` ask for, the worker that comes later runs it all the same."""
    job = slow()
    cancel(client, job)
    is_cancelled(job)
    worker = start("worker", "--burst")
    assert worker.process
    assert worker.process.wait(CANCELLED_WITHIN_SECONDS) == 0
    assert is_cancelled(job).attempts == 0


def test_cancel_while_it_waits_for_another_job(client: Client, start: Start, slow: Slow) -> None:
    """Without `waits_for=""` in `request_cancel` a page would show it as waiting, and the ring would be for it."""
    start("worker")
    start("worker")
    holder = wait_for(slow(hold="repository:1"), "running")
    job = slow(hold="repository:1")
    wait_until(lambda: waits(job), seconds=CANCELLED_WITHIN_SECONDS, what="The second job")
    cancel(client, job)
    is_cancelled(job)
    let(holder, "end-1")
    wait_for(holder, "completed")
    assert is_cancelled(job).attempts == 0


def waits(job: Job) -> bool:
    job.refresh_from_db()
    return job.waits_for == "repository:1"


def test_cancel_while_it_runs(client: Client, start: Start, slow: Slow) -> None:
    """Without the question in `flush` the mark in the row is never seen."""
    worker = start("worker")
    job = wait_for(slow(hold="repository:1", max_attempts=3), "running")
    cancel(client, job)
    is_cancelled(job)
    assert log_of(job, 1)[-1] == "Cancelled."
    assert worker.is_alive


def test_cancel_before_its_first_step(client: Client, start: Start, slow: Slow) -> None:
    """Asked for between the claim and the first look of the pulse: the mark is there before anybody looks."""
    start("worker")
    job = wait_for(slow(), "running")
    with_pid(job, signal.SIGSTOP)
    cancel(client, job)
    job.refresh_from_db()
    assert job.status == "running"
    with_pid(job, signal.SIGCONT)
    is_cancelled(job)


def test_cancel_while_it_waits_for_its_next_attempt(client: Client, start: Start, slow: Slow) -> None:
    """Without `not_before=None` in `request_cancel` a cancelled job would look as if it were to come back."""
    start("worker")
    job = slow(max_attempts=3)
    let(wait_for(job, "running"), "fail-1")
    wait_for(job, "pending", attempt=1)
    cancel(client, job)
    job.refresh_from_db()
    assert (job.status, job.not_before) == ("cancelled", None)
    assert job.completed_at
    assert job.completed_at <= timezone.now()


def test_cancel_in_the_moment_in_which_it_fails(client: Client, start: Start, slow: Slow) -> None:
    """Without the condition in `put_back` the job would be tried again although somebody asked for its end."""
    start("worker")
    job = wait_for(slow(max_attempts=3), "running")
    with_pid(job, signal.SIGSTOP)
    let(job, "fail-1")
    cancel(client, job)
    with_pid(job, signal.SIGCONT)
    assert is_cancelled(job).attempts == 1


def test_cancel_after_the_end_changes_nothing_and_says_so(client: Client, start: Start, slow: Slow) -> None:
    """Without the status in the WHERE of `request_cancel` a completed job would become a cancelled one."""
    start("worker")
    job = slow()
    let(job, "end-1")
    wait_for(job, "completed")
    answer = client.post(f"/jobs/{job.pk}/cancel", follow=True)
    assert "The job had already ended." in answer.content.decode()
    job.refresh_from_db()
    assert job.status == "completed"
