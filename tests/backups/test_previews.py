"""Looking at a file of an archive on a page: text and images are shown, and nothing of it is ever run."""

import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any, cast

import pytest
from django.test import Client

from accounts import encryption
from backups import catalog
from backups.models import Archive, Plan, Repository, StoragePool
from backups.previews import IMAGE_BYTES, TEXT_BYTES, Preview, image_type
from backups.runners.index import IndexArchive
from jobs.models import Job
from tests.backups.conftest import Workers
from tests.backups.replay import entry
from tests.backups.test_downloads import number_of
from tests.backups.tree import PASSPHRASE, Tree, borg
from tests.conftest import make_archive


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


PNG = (
    b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b"")
)  # fmt: skip
EVIL = b"<script>alert(1)</script><img src=x onerror='alert(2)'>{{ 7*7 }}"
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
FILES = {
    "text": b"first line\nsecond line\n", "evil.html": EVIL, "evil.png": EVIL, "evil.svg": SVG,
    "latin": b"caf\xe9\n", "empty": b"", "binary": b"\x7fELF\0\1\2", "dot.png": PNG, "no-name-for-it": PNG,
    "long": "é".encode() * TEXT_BYTES + b"the end", "odd": b"x" + "é".encode() * TEXT_BYTES,
    "just": b"y" * TEXT_BYTES, "large.png": PNG + os.urandom(IMAGE_BYTES), "page.jpg": b"\xff\xd8\xff" + EVIL,
}  # fmt: skip


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    root = tmp_path_factory.mktemp("gallery")
    tree = Tree(root, root / "pool" / "gallery")
    (root / "src").mkdir()
    for name, content in FILES.items():
        (root / "src" / name).write_bytes(content)
    tree.repository.parent.mkdir()
    borg(tree, "init", "--encryption=repokey-blake2", str(tree.repository))
    borg(tree, "create", f"{tree.repository}::src", "src")
    tree.archives["src"] = borg(tree, "list", "--format={id}", str(tree.repository)).strip()
    return tree


@pytest.fixture
def shown(gallery: Tree, plan: Plan, workers: Workers) -> Archive:
    StoragePool.objects.filter(pk=plan.repository.pool_id).update(path=str(gallery.repository.parent))
    Repository.objects.filter(pk=plan.repository.pk).update(
        name="gallery", passphrase_encrypted=encryption.encrypt(PASSPHRASE)
    )
    made = make_archive(plan, name="src", borg_id=gallery.archives["src"])
    IndexArchive.enqueue(made)
    workers.join()
    return cast("Archive", Archive.objects.with_scope().get(pk=made.pk))


def preview(client: Client, archive: Archive, name: str) -> str:
    answer = client.get(f"/archives/{archive.pk}/preview/{number_of(archive, b'src/' + name.encode())}")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/html")
    assert "no-store" in answer["Cache-Control"]
    return answer.getvalue().decode()


def image(client: Client, archive: Archive, name: str) -> Any:
    return client.get(f"/archives/{archive.pk}/preview/{number_of(archive, b'src/' + name.encode())}/image")


def text_of(html: str) -> str:
    found = re.search(r'<pre class="preview-text"[^>]*>(.*?)</pre>', html, re.DOTALL)
    return found[1] if found else ""


# --- Text ---------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_text_is_shown_as_it_is(as_admin: Client, shown: Archive) -> None:
    html = preview(as_admin, shown, "text")
    assert text_of(html) == "first line\nsecond line\n"
    assert "Only the first" not in html
    assert f"/archives/{shown.pk}/download/" in html


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["evil.html", "evil.png", "evil.svg"])
def test_what_a_browser_would_run_is_text(as_admin: Client, shown: Archive, name: str) -> None:
    """Red when a name decides what a file is, or text is not escaped."""
    html = preview(as_admin, shown, name)
    assert "&lt;script&gt;alert(1)" in text_of(html)
    assert "<script>alert" not in html and "onerror='" not in html and "<svg onload" not in html
    assert "preview-image" not in html
    assert image(as_admin, shown, name).status_code == 404


@pytest.mark.e2e
def test_what_is_not_utf_8_is_replaced(as_admin: Client, shown: Archive) -> None:
    assert text_of(preview(as_admin, shown, "latin")) == "caf\ufffd\n"


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["long", "odd"])
def test_of_a_long_text_the_beginning_is_shown_and_no_more_is_read(
    as_admin: Client, shown: Archive, workers: Workers, name: str
) -> None:
    """Red when all is read; and, for `odd`, when a character that was cut in two is shown as a wrong one."""
    html = preview(as_admin, shown, name)
    assert "Only the first 256" in html
    assert text_of(html).strip("x") == "é" * (TEXT_BYTES // 2 - (name == "odd"))
    workers.join()
    job = Job.objects.get(type="download")
    assert (job.status, job.result) == ("completed", {"bytes": TEXT_BYTES})


@pytest.mark.e2e
def test_a_text_that_just_fits_is_not_cut(as_admin: Client, shown: Archive) -> None:
    html = preview(as_admin, shown, "just")
    assert "Only the first" not in html
    assert text_of(html) == "y" * TEXT_BYTES


@pytest.mark.e2e
@pytest.mark.parametrize(("name", "said"), [("empty", "This file is empty."), ("binary", "This is no text")])
def test_what_is_no_text_is_said(as_admin: Client, shown: Archive, name: str, said: str) -> None:
    html = preview(as_admin, shown, name)
    assert said in html
    assert text_of(html) == ""


# --- Images -------------------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["dot.png", "no-name-for-it"])
def test_an_image_is_known_by_what_is_in_it_and_cannot_do_anything(as_admin: Client, shown: Archive, name: str) -> None:
    html = preview(as_admin, shown, name)
    number = number_of(shown, b"src/" + name.encode())
    assert f'src="/archives/{shown.pk}/preview/{number}/image"' in html
    answer = image(as_admin, shown, name)
    assert (answer.status_code, answer.getvalue(), answer["Content-Type"]) == (200, PNG, "image/png")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"
    assert answer["Content-Disposition"].startswith(f'attachment; filename="{name}"')
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.e2e
def test_a_page_that_begins_like_an_image_is_served_as_one_and_as_nothing_else(
    as_admin: Client, shown: Archive
) -> None:
    answer = image(as_admin, shown, "page.jpg")
    assert (answer["Content-Type"], answer["X-Content-Type-Options"]) == ("image/jpeg", "nosniff")
    assert "sandbox" in answer["Content-Security-Policy"]


@pytest.mark.e2e
def test_an_image_that_is_too_large_is_only_downloaded(as_admin: Client, shown: Archive) -> None:
    assert "This image is larger than" in preview(as_admin, shown, "large.png")
    assert image(as_admin, shown, "large.png").status_code == 404
    assert Job.objects.filter(type="download").count() == 1


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "image/png"), (b"\xff\xd8\xff\xe0", "image/jpeg"), (b"GIF87a..", "image/gif"), (b"GIF89a", "image/gif"),
        (b"RIFF\1\2\3\4WEBPVP8 ", "image/webp"), (b"RIFF\1\2\3\4WAVE", ""), (b"", ""), (b"\x89PNG", ""), (SVG, ""),
        (b" " + PNG, ""), (b"BM\0\0", ""), (b"\0\0\1\0", ""), (b"%PDF-1.7", ""), (b"<html>", ""),
    ],
)  # fmt: skip
def test_only_four_kinds_are_images(content: bytes, kind: str) -> None:
    assert image_type(content) == kind
    assert Preview(content, False).image == kind


# --- Who, and what goes wrong -------------------------------------------------------------------


@pytest.fixture
def small(archive: Archive) -> Archive:
    catalog.build(archive, [entry(b"d/"), entry(b"d/file"), entry(b"d/link", mode="lrwxrwxrwx")])
    return archive


@pytest.mark.django_db
def test_who_may_not_restore_sees_no_content(as_operator: Client, as_viewer: Client, small: Archive) -> None:
    number = number_of(small, b"d/file")
    folder = f"/archives/{small.pk}/browse/{number_of(small, b'd')}"
    for client in (as_operator, as_viewer):
        for path in ("", "/image"):
            assert client.get(f"/archives/{small.pk}/preview/{number}{path}").status_code == 403
        assert "/preview/" not in client.get(folder).getvalue().decode()
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_the_rows_of_files_lead_to_it_and_a_folder_is_offered_in_each_format(as_admin: Client, small: Archive) -> None:
    folder = number_of(small, b"d")
    html = as_admin.get(f"/archives/{small.pk}/browse/{folder}").getvalue().decode()
    assert html.count("/preview/") == 1
    assert f"/preview/{number_of(small, b'd/file')}" in html
    for packing in ("tar.zst", "tar.gz", "zip", "tar"):
        assert f'/archives/{small.pk}/download/{folder}?format={packing}"' in html


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["", "/image"])
def test_what_is_no_file_is_not_shown(as_admin: Client, small: Archive, path: str) -> None:
    folder, link = number_of(small, b"d"), number_of(small, b"d/link")
    for number in (folder, link, 999, 10**30):
        assert as_admin.get(f"/archives/{small.pk}/preview/{number}{path}").status_code in (302, 404)
    assert not Job.objects.filter(type="download").exists()


@pytest.mark.django_db
def test_without_a_worker_it_leads_back_and_says_so(
    as_admin: Client, small: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.queue.live_workers", list)
    answer = as_admin.get(f"/archives/{small.pk}/preview/{number_of(small, b'd/file')}", follow=True)
    assert "No worker is there to send it. Try again later." in answer.getvalue().decode()


@pytest.mark.django_db
def test_before_the_listing_is_read_there_is_nothing_to_show(as_admin: Client, archive: Archive) -> None:
    for path in ("", "/image"):
        answer = as_admin.get(f"/archives/{archive.pk}/preview/1{path}")
        assert answer["Location"] == f"/archives/{archive.pk}/browse"


@pytest.mark.e2e
def test_a_borg_that_fails_leads_back_and_says_why(as_admin: Client, shown: Archive, tmp_path: Path) -> None:
    Repository.objects.update(passphrase_encrypted=encryption.encrypt("wrong"))
    number = number_of(shown, b"src/text")
    for path in ("", "/image"):
        answer = as_admin.get(f"/archives/{shown.pk}/preview/{number}{path}", follow=True)
        assert "The passphrase of the repository is wrong." in answer.getvalue().decode()
