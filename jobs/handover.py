"""A secret from a web process to the one job that needs it: through Redis, sealed, for two minutes, once.

A job's parameters are a row that everybody may read who sees jobs; what must never be stored goes this way.
"""

from typing import ClassVar

from redis import RedisError

from accounts.encryption import Sealer, WrongKey
from jobs import queue
from jobs.errors import Cause, Failure
from jobs.models import Job

SECONDS = 120


class NotGiven(Exception):
    """Redis is away."""


class NotThere(Failure):
    cause: ClassVar = Cause.AUTHENTICATION
    advice: ClassVar = "It is kept for two minutes, and can be used once: no second attempt has it. Enter it again."


def give(job: Job, secret: str) -> None:
    """Leave it for `job`, in the transaction that makes the job: before a worker can look. Raises NotGiven.

    Once for each job: its key seals one piece.
    """
    try:
        queue.connection().set(_key(job), _sealer(job).seal(secret.encode()), ex=SECONDS)
    except (RedisError, OSError) as error:
        raise NotGiven from error


def take(job: Job) -> str:
    """What was left for `job`, which is gone then. Raises NotThere."""
    try:
        sealed = queue.connection().getdel(_key(job))
    except (RedisError, OSError) as error:
        raise NotThere("What was entered for this job cannot be fetched: Redis is away.") from error
    if sealed is None:
        raise NotThere("What was entered for this job is not there any more.")
    try:
        return _sealer(job).open(bytes(sealed)).decode()  # type: ignore[arg-type]  # bytes: nothing is decoded
    except WrongKey as error:
        raise NotThere("What was entered cannot be read here: it was sealed with another key.") from error


def _key(job: Job) -> str:
    return f"phpborg:handover:{job.pk}"


def _sealer(job: Job) -> Sealer:
    return Sealer(f"handover {job.pk}")
