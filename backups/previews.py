"""What a page shows of a file without anybody having to download it; nothing of it is ever run."""

import codecs
from dataclasses import dataclass

from django.http import HttpResponse

from accounts.models import User
from backups.downloads import DownloadFailed, Wanted, disposition, read_beginning

TEXT_BYTES = 256_000
IMAGE_BYTES = 8_000_000
# By how they begin, whatever they are called. No SVG: a browser would run what is in it.
IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF87a": "image/gif", b"GIF89a": "image/gif",
}  # fmt: skip


@dataclass(frozen=True)
class Preview:
    content: bytes
    is_cut: bool

    @property
    def image(self) -> str:
        """Its content type, if it is an image; "" if not."""
        return image_type(self.content)

    @property
    def is_binary(self) -> bool:
        return b"\0" in self.content

    @property
    def text(self) -> str:
        # Cut, it may end in the middle of a character.
        return codecs.getincrementaldecoder("utf-8")("replace").decode(self.content, final=not self.is_cut)


def preview_of(wanted: Wanted, *, user: User | None) -> Preview:
    """Raises Refused or DownloadFailed."""
    return Preview(read_beginning(wanted, TEXT_BYTES, user=user), wanted.size > TEXT_BYTES)


def image_of(wanted: Wanted, *, user: User | None) -> HttpResponse | None:
    """An image as a response for an <img>; None if it is none that we show. Raises Refused or DownloadFailed."""
    if wanted.size > IMAGE_BYTES:
        return None
    content = read_beginning(wanted, IMAGE_BYTES, user=user)
    kind = image_type(content)
    if not kind:
        return None
    if len(content) != wanted.size:
        raise DownloadFailed("The file is not as long as the listing says.")
    response = HttpResponse(content, content_type=kind)
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox; frame-ancestors 'none'"
    response["Cross-Origin-Resource-Policy"] = "same-origin"
    response["Content-Disposition"] = disposition(wanted.file_name())
    return response


def image_type(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in IMAGES.items() if content.startswith(magic)), "")
