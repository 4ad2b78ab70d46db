"""A download as a response: the job fetches it from borg, the response passes it on as it comes."""

import contextlib
import re
from collections.abc import AsyncIterator
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _
from redis import RedisError

from accounts.models import User
from backups.catalog import Catalog, Item
from backups.models import Archive
from backups.runners.download import DownloadFile
from jobs import queue
from jobs.models import Job
from jobs.pipe import GIVE_UP_SECONDS, Pipe, WriterFailed
from jobs.runner import cancel

FIRST_PIECE_SECONDS = 60


class DownloadFailed(Exception):
    """Nothing was sent yet, and nothing will be; the text says why."""


class NobodyThere(DownloadFailed):
    """No worker sends it now, but one may later."""


def start_download(archive: Archive, entry: int, *, user: User | None, trigger: Job.Trigger) -> StreamingHttpResponse:
    """Start the job, wait for its first piece, and stream. Raises NotIndexed, Refused or DownloadFailed."""
    with Catalog(archive) as listing:
        item = listing.item(entry)
        if item is None:
            raise DownloadFailed(_("This entry is not in the archive's listing."))
        if not (item.is_file or item.is_folder):
            raise DownloadFailed(_("Only files and folders can be downloaded."))
        length = None if item.is_folder else listing.content_of(item).size
    refuse_without_worker()
    job = DownloadFile.enqueue(archive, user=user, trigger=trigger, entry=entry)
    pipe = Pipe(job.pk)
    try:
        first = pipe.read(seconds=FIRST_PIECE_SECONDS)
    except (TimeoutError, RedisError):
        cancel(job)
        raise NobodyThere(_("No worker was free for the download. Try again later.")) from None
    except WriterFailed as error:
        raise DownloadFailed(str(error)) from error
    response = StreamingHttpResponse(_stream(job, pipe, first), content_type="application/octet-stream")
    response["Content-Disposition"] = disposition(item)
    response["X-Accel-Buffering"] = "no"
    if length is not None:
        response["Content-Length"] = str(length)
    return response


def refuse_without_worker() -> None:
    """Other jobs wait until there is one; whoever downloads is waiting now."""
    try:
        if queue.live_workers():
            return
    except RedisError:
        pass
    raise NobodyThere(_("No worker is there to send it. Try again later."))


async def _stream(job: Job, pipe: Pipe, piece: bytes | None) -> AsyncIterator[bytes]:
    """Pass on the pieces; a writer that fails in the middle breaks the connection, so nobody trusts half a file."""
    read = sync_to_async(pipe.read, thread_sensitive=False)
    complete = False
    try:
        while piece is not None:
            yield piece
            piece = await read(seconds=GIVE_UP_SECONDS)
        complete = True
    finally:
        if not complete:
            with contextlib.suppress(Exception):
                await sync_to_async(cancel)(job)
        await sync_to_async(pipe.close, thread_sensitive=False)()


def disposition(item: Item) -> str:
    """Content-Disposition with the name twice: in ASCII, and as it is (RFC 6266)."""
    name = item.text + (".tar" if item.is_folder else "")
    plain = re.sub(r"[^A-Za-z0-9 ._()+-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
