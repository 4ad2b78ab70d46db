"""A download as a response: the job fetches it from borg, the response passes it on as it comes."""

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from redis import RedisError

from accounts.models import User
from backups.catalog import Catalog, Item
from backups.models import Archive
from backups.packing import PACKINGS, PLAIN
from backups.ranges import asked_part
from backups.runners.download import DownloadFile
from jobs import queue
from jobs.models import Job
from jobs.outliving import Outliving
from jobs.pipe import GIVE_UP_SECONDS, Pipe, WriterFailed
from jobs.runner import cancel

FIRST_PIECE_SECONDS = 60
CONTENT_TYPE = "application/octet-stream"  # of everything: no browser shall run it
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class DownloadFailed(Exception):
    """Nothing was sent yet, and nothing will be; the text says why."""


class NobodyThere(DownloadFailed):
    """No worker sends it now, but one may later."""


@dataclass(frozen=True)
class Wanted:
    """A file or folder of an archive, as its listing knows it."""

    archive: Archive
    item: Item
    path: bytes
    size: int  # of a file

    @property
    def etag(self) -> str:
        """Of a file: what an archive holds never changes."""
        known = b"\0".join((self.archive.borg_id.encode(), self.path))
        return f'"{hashlib.sha256(known).hexdigest()[:32]}"'

    def file_name(self, packing: str = PLAIN) -> str:
        """For whoever gets it; everything together is called as the archive."""
        return (self.item.text or self.archive.name) + (f".{packing}" if self.item.is_folder else "")


def look_up(archive: Archive, entry: int) -> Wanted:
    """Raises NotIndexed or DownloadFailed."""
    with Catalog(archive) as listing:
        item = listing.at(entry)
        if item is None:
            raise DownloadFailed(_("This entry is not in the archive's listing."))
        if not (item.is_file or item.is_folder):
            raise DownloadFailed(_("Only files and folders can be downloaded."))
        return Wanted(archive, item, listing.path(item), listing.content_of(item).size)


def start_download(
    archive: Archive,
    entry: int,
    *,
    user: User | None,
    trigger: Job.Trigger,
    packing: str = "",
    headers: Mapping[str, str] = NO_HEADERS,
    only_headers: bool = False,
) -> HttpResponseBase:
    """Start the job, wait for its first piece, and stream; of a file the part that the request's headers ask for.

    `packing` is one of PACKINGS, of a folder. With `only_headers`, for HEAD, which knows no parts, nothing is started.
    Raises NotIndexed, Refused, Unsatisfiable or DownloadFailed.
    """
    wanted = look_up(archive, entry)
    refuse_packing(wanted.item, packing)
    packing = packing or PLAIN
    part = None if wanted.item.is_folder or only_headers else asked_part(headers, size=wanted.size, etag=wanted.etag)
    response: HttpResponseBase
    if only_headers:
        response = HttpResponse(content_type=CONTENT_TYPE)
    elif wanted.item.is_folder:
        response = stream(wanted, user=user, trigger=trigger, packing=packing)
    elif part:
        # To the end borg itself is followed to its end: what it fails with is told, and what is too much breaks it.
        length = None if part.last == part.size - 1 else part.length
        response = stream(wanted, user=user, trigger=trigger, first=part.first, length=length)
    else:
        response = stream(wanted, user=user, trigger=trigger)
    response["Content-Disposition"] = disposition(wanted.file_name(packing))
    response["Accept-Ranges"] = "none" if wanted.item.is_folder else "bytes"
    if wanted.item.is_file:
        response["ETag"] = wanted.etag
        response["Content-Length"] = str(part.length if part else wanted.size)
    if part:
        response.status_code = 206
        response["Content-Range"] = part.content_range
    return response


def refuse_packing(item: Item, packing: str) -> None:
    """Raises DownloadFailed."""
    if packing and packing not in PACKINGS:
        raise DownloadFailed(_("A folder can be had as: %(formats)s.") % {"formats": ", ".join(PACKINGS)})
    if packing and not item.is_folder:
        raise DownloadFailed(_("Only a folder has a format: a file is sent as it is."))


def stream(wanted: Wanted, *, user: User | None, trigger: Job.Trigger, **how: Any) -> StreamingHttpResponse:
    """A response with what the job sends. Raises Refused or DownloadFailed."""
    job, pipe, first = start(wanted, user=user, trigger=trigger, **how)
    response = Outliving(_stream(job, pipe, first), content_type=CONTENT_TYPE)
    response["X-Accel-Buffering"] = "no"
    return response


def start(wanted: Wanted, *, user: User | None, trigger: Job.Trigger, **how: Any) -> tuple[Job, Pipe, bytes | None]:
    """The job, and the first piece of what it sends. Raises Refused or DownloadFailed."""
    refuse_without_worker()
    job = DownloadFile.enqueue(wanted.archive, user=user, trigger=trigger, entry=wanted.item.id, **how)
    pipe = Pipe(job.pk)
    try:
        return job, pipe, pipe.read(seconds=FIRST_PIECE_SECONDS)
    except (TimeoutError, RedisError):
        cancel(job)
        raise NobodyThere(_("No worker was free for the download. Try again later.")) from None
    except WriterFailed as error:
        raise DownloadFailed(str(error)) from error


def read_beginning(wanted: Wanted, most: int, *, user: User | None) -> bytes:
    """At most `most` bytes of a file, at once. Raises Refused or DownloadFailed."""
    length = most if wanted.size > most else None
    job, pipe, piece = start(wanted, user=user, trigger=Job.Trigger.USER, length=length)
    content = bytearray()
    try:
        while piece is not None and len(content) <= most:
            content += piece
            piece = pipe.read(seconds=GIVE_UP_SECONDS)
    except (WriterFailed, TimeoutError, RedisError) as error:
        raise DownloadFailed(str(error) or _("It broke off in the middle. Try again.")) from error
    finally:
        if piece is not None:
            cancel(job)
        with contextlib.suppress(RedisError):
            pipe.close()
    return bytes(content[:most])


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
            if piece:
                yield piece
            piece = await read(seconds=GIVE_UP_SECONDS)
        complete = True
    finally:
        if not complete:
            with contextlib.suppress(Exception):
                await sync_to_async(_give_up)(job)
        await sync_to_async(pipe.close, thread_sensitive=False)()


def _give_up(job: Job) -> None:
    """Of the request, and of its connection to the database, nothing is left any more."""
    close_old_connections()
    cancel(job)
    close_old_connections()


def disposition(name: str) -> str:
    """Content-Disposition with the name twice: in ASCII, and as it is (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9 ._()+-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
