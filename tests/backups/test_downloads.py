"""A file or a part of it, or a folder as a tar, out of a real archive and through a job to the browser."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from redis import RedisError
from rest_framework.test import APIClient

from accounts import encryption
from accounts.models import User
from backups import catalog
from backups.catalog import Catalog, Item
from backups.downloads import DownloadFailed, Wanted, disposition, look_up, start_download, stream
from backups.models import Archive, Repository
from backups.runners.download import DownloadFile
from backups.runners.index import IndexArchive
from jobs.models import Job
from tests.backups.conftest import Workers
from tests.backups.replay import entry
from tests.backups.tree import BIG_BYTES, DEEP, PASSPHRASE, STRANGE_NAMES, Tree, everything_in
from tests.conftest import run_now

NAME = b"src/names/"


@pytest.fixture
def indexed(workers: Workers, real_archive: Archive) -> Archive:
    """The real archive with its listing read, and workers that do what is rung for."""
    IndexArchive.enqueue(real_archive)
    workers.join()
    return real_archive


def number_of(archive: Archive, path: bytes) -> int:
    with Catalog(archive) as listing:
        item = listing.find(path)
        assert item, path
        return item.id


def body(response: Any) -> bytes:
    """What a browser would have got in the end."""

    async def read() -> bytes:
        return b"".join([piece async for piece in response])

    assert response.status_code == 200
    return async_to_sync(read)()


def download(archive: Archive, path: bytes, *, user: User | None = None, **how: Any) -> Any:
    return start_download(archive, number_of(archive, path), user=user, trigger=Job.Trigger.USER, **how)


def tree_of(tar: bytes) -> dict[bytes, tuple[str, bytes]]:
    """Each path in a tar with its kind, and its content or target; a hard link has that of its first name."""
    found: dict[bytes, tuple[str, bytes]] = {}
    kinds = {tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.FIFOTYPE: "p"}
    with tarfile.open(fileobj=io.BytesIO(tar), encoding="utf-8", errors="surrogateescape") as file:
        for member in file:
            content = member.linkname.encode("utf-8", "surrogateescape")
            if member.isfile() or member.islnk():
                extracted = file.extractfile(member)
                assert extracted
                content = extracted.read()
            path = member.name.rstrip("/").encode("utf-8", "surrogateescape")
            found[path] = (kinds.get(member.type, "-"), b"" if member.isdir() else content)
    return found


# --- Byte for byte ----------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_file_of_any_name_arrives_as_it_was(indexed: Archive, name: bytes) -> None:
    response = download(indexed, NAME + name)
    assert body(response) == b"content of " + name
    assert response["Content-Length"] == str(len(b"content of " + name))
    assert response["Content-Type"] == "application/octet-stream"


@pytest.mark.e2e
@pytest.mark.parametrize(
    "path", [b"src/sizes/empty", b"src/sizes/pieces", b"src/sizes/big", b"src/" + DEEP + b"/bottom"]
)
def test_a_file_of_any_size_and_depth_arrives_as_it_was(
    indexed: Archive, tree: Tree, workers: Workers, path: bytes
) -> None:
    response = download(indexed, path)
    assert body(response) == tree.bytes_of(path)
    workers.join()
    assert Job.objects.get(type="download").result == {"bytes": int(response["Content-Length"])}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "content"),
    [
        (b"first", b"one content, two names"), (b"second", b"one content, two names"),
        (b"odd-\xfe", b"one content, two odd names"), (b"odd-\xff", b"one content, two odd names"),
    ],
)  # fmt: skip
def test_each_name_of_a_hard_link_has_its_content(indexed: Archive, name: bytes, content: bytes) -> None:
    response = download(indexed, b"src/links/" + name)
    assert body(response) == content
    assert response["Content-Length"] == str(len(content))


@pytest.mark.e2e
@pytest.mark.parametrize("folder", [b"src/names", b"src/links", b"src/empty-folder", b"src"])
def test_a_folder_arrives_as_a_tar_of_all_that_is_below_it(indexed: Archive, tree: Tree, folder: bytes) -> None:
    response = download(indexed, folder)
    found = tree_of(body(response))
    assert "Content-Length" not in response
    expected = everything_in(tree.root / folder.decode())
    assert found.pop(folder) == ("d", b"")
    assert found == {folder + b"/" + path: value for path, value in expected.items()}


@pytest.mark.e2e
def test_everything_arrives_as_one_tar(as_admin: Client, api_admin: APIClient, indexed: Archive, tree: Tree) -> None:
    expected = {path: what for path, what in everything_in(tree.root).items() if path.split(b"/")[0] == b"src"}
    for answer in (
        api_admin.get(f"/api/archives/{indexed.pk}/download?path=/"),
        as_admin.get(f"/archives/{indexed.pk}/download/0"),
    ):
        assert answer["Content-Disposition"].startswith(f'attachment; filename="{indexed.name}.tar"')
        assert tree_of(body(answer)) == expected


# --- A part of a file -------------------------------------------------------------------------


def part(response: Any) -> bytes:
    assert response.status_code == 206
    response.status_code = 200
    return body(response)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0), ("bytes=0-99", 0, 99), ("bytes=262144-300000", 262_144, 300_000),
        ("bytes=1-", 1, 699_999), ("bytes=699999-", 699_999, 699_999), ("bytes=650000-999999999", 650_000, 699_999),
        ("bytes=-1", 699_999, 699_999), ("bytes=-300000", 400_000, 699_999), ("bytes=-999999999", 0, 699_999),
    ],
)  # fmt: skip
def test_a_part_is_what_stands_there_and_nothing_else(
    indexed: Archive, tree: Tree, workers: Workers, asked: str, first: int, last: int
) -> None:
    """Red when all of the file is sent, or borg's being ended is taken for a failure."""
    response = download(indexed, b"src/sizes/pieces", headers={"Range": asked})
    assert response["Content-Range"] == f"bytes {first}-{last}/700000"
    assert response["Content-Length"] == str(last - first + 1)
    assert part(response) == tree.bytes_of(b"src/sizes/pieces")[first : last + 1]
    workers.join()
    job = Job.objects.get(type="download")
    assert (job.status, job.result) == ("completed", {"bytes": last - first + 1})


@pytest.mark.e2e
def test_of_a_large_file_no_more_is_read_than_was_asked_for(indexed: Archive, workers: Workers) -> None:
    """Red when borg goes on to the end of the file."""
    response = download(indexed, b"src/sizes/big", headers={"Range": "bytes=1000000-1000009"})
    assert part(response) == bytes(10)
    workers.join()
    assert Job.objects.get(type="download").progress["original"] < BIG_BYTES // 2


@pytest.mark.e2e
def test_a_download_that_broke_off_goes_on_with_what_is_missing(indexed: Archive, tree: Tree) -> None:
    whole = download(indexed, b"src/sizes/pieces")
    etag = whole["ETag"]
    had = body(whole)[:300_001]
    rest = download(indexed, b"src/sizes/pieces", headers={"Range": f"bytes={len(had)}-", "If-Range": etag})
    assert had + part(rest) == tree.bytes_of(b"src/sizes/pieces")
    assert rest["ETag"] == etag
    other = download(indexed, b"src/sizes/pieces", headers={"Range": "bytes=5-9", "If-Range": '"another"'})
    assert body(other) == tree.bytes_of(b"src/sizes/pieces")


@pytest.mark.e2e
def test_each_file_of_each_archive_has_a_tag_of_its_own(indexed: Archive) -> None:
    tags = [download(indexed, path)["ETag"] for path in (b"src/dated", b"src/sizes/empty", b"src/dated")]
    assert (tags[0] == tags[2], tags[0] != tags[1], tags[0][0] + tags[0][-1]) == (True, True, '""')
    before = tags[0]
    wanted = look_up(indexed, number_of(indexed, b"src/dated"))
    wanted.archive.borg_id = "ef" * 32
    assert wanted.etag != before


@pytest.mark.e2e
def test_a_hard_link_can_be_had_in_parts(indexed: Archive) -> None:
    assert part(download(indexed, b"src/links/second", headers={"Range": "bytes=4-10"})) == b"content"


@pytest.mark.e2e
def test_a_folder_has_no_parts(indexed: Archive) -> None:
    response = download(indexed, b"src/names", headers={"Range": "bytes=0-9"})
    assert "Content-Range" not in response
    assert len(tree_of(body(response))) == len(STRANGE_NAMES) + 1


@pytest.mark.e2e
def test_a_file_that_is_longer_or_shorter_than_its_listing_never_looks_whole(
    indexed: Archive, workers: Workers
) -> None:
    """What uvicorn then does is break the connection; here the response's promise is looked at."""
    for size in (3, 7):
        with Catalog(indexed) as listing:
            item = listing.find(b"src/dated")
        assert item
        wanted = Wanted(indexed, replace(item, size=size), b"src/dated", size)
        response = stream(wanted, user=None, trigger=Job.Trigger.USER)
        assert len(body(response)) == 5 != size
        workers.join()


# --- The job behind it ------------------------------------------------------------------------


@pytest.mark.e2e
def test_the_job_says_who_downloaded_what_but_never_the_passphrase(
    indexed: Archive, workers: Workers, admin: User
) -> None:
    body(download(indexed, b"src/dated", user=admin))
    workers.join()
    job = Job.objects.get(type="download")
    assert (job.user, job.server, job.plan, job.priority) == (admin, indexed.server, indexed.plan, Job.Priority.HIGH)
    stored = f"{Job.objects.values()} {[line.message for line in job.lines.all()]}"
    assert "pp:src/dated" in stored
    assert PASSPHRASE.split(";")[0] not in stored


@pytest.mark.e2e
def test_a_download_that_is_broken_off_ends_its_job(indexed: Archive, workers: Workers) -> None:
    response = download(indexed, b"src/sizes/big")

    async def read_a_little() -> int:
        stream = aiter(response)
        first = await anext(stream)
        await response.streaming_content.aclose()
        return len(first)

    assert 0 < async_to_sync(read_a_little)() < BIG_BYTES
    workers.join()
    assert Job.objects.get(type="download").status == "cancelled"


@pytest.mark.e2e
def test_a_borg_that_fails_sends_nothing_and_says_why(indexed: Archive) -> None:
    Repository.objects.update(passphrase_encrypted=encryption.encrypt("wrong"))
    indexed.refresh_from_db()
    with pytest.raises(DownloadFailed, match=r"^The passphrase of the repository is wrong\.$"):
        download(indexed, b"src/dated")


@pytest.mark.e2e
def test_an_archive_that_is_gone_sends_nothing(indexed: Archive) -> None:
    Archive.objects.update(name="gone")
    with pytest.raises(DownloadFailed, match="The archive is not in the repository"):
        download(indexed, b"src/names")


# --- By page and by API -----------------------------------------------------------------------


@pytest.mark.e2e
def test_the_page_and_the_api_hand_out_the_same(as_admin: Client, api_admin: APIClient, indexed: Archive) -> None:
    number = number_of(indexed, b"src/dated")
    api = f"/api/archives/{indexed.pk}/download"
    for client, path in (
        (as_admin, f"/archives/{indexed.pk}/download/{number}"),
        (api_admin, f"{api}?entry={number}"),
        (api_admin, f"{api}?path=/src/dated"),
        (api_admin, f"{api}?path=src/dated"),
    ):
        response = client.get(path)
        assert body(response) == b"dated"
        assert response["Content-Disposition"].startswith('attachment; filename="dated"')
    assert set(Job.objects.filter(type="download").values_list("trigger", flat=True)) == {"user", "api"}


@pytest.mark.e2e
def test_the_page_and_the_api_hand_out_parts(as_admin: Client, api_admin: APIClient, indexed: Archive) -> None:
    number = number_of(indexed, b"src/dated")
    for client, path in (
        (as_admin, f"/archives/{indexed.pk}/download/{number}"),
        (api_admin, f"/api/archives/{indexed.pk}/download?entry={number}"),
    ):
        whole = client.get(path)
        assert (whole["Accept-Ranges"], body(whole)) == ("bytes", b"dated")
        assert part(client.get(path, headers={"Range": "bytes=1-3"})) == b"ate"
        assert body(client.get(path, headers={"Range": "bytes=1-2,4-4"})) == b"dated"
        refused = client.get(path, headers={"Range": "bytes=5-"})
        assert (refused.status_code, refused["Content-Range"]) == (416, "bytes */5")
    assert refused.json()["error"]["code"] == "range_not_satisfiable"


@pytest.mark.e2e
@pytest.mark.parametrize("accepted", ["*/*", "application/zip", "text/html"])
def test_the_page_and_the_api_pack_a_folder_as_they_are_asked(
    as_admin: Client, api_admin: APIClient, indexed: Archive, accepted: str
) -> None:
    """Red with DRF's own `format`, which takes it for one of its renderers and says 404."""
    number = number_of(indexed, b"src/names")
    for client, path in (
        (as_admin, f"/archives/{indexed.pk}/download/{number}?format=zip"),
        (api_admin, f"/api/archives/{indexed.pk}/download?path=src/names&format=zip"),
    ):
        response = client.get(path, headers={"Accept": accepted})
        with zipfile.ZipFile(io.BytesIO(body(response))) as found:
            assert len(found.namelist()) == len(STRANGE_NAMES) + 1
        assert response["Content-Disposition"].startswith('attachment; filename="names.zip"')


@pytest.mark.e2e
def test_what_fails_leads_back_to_the_page_or_is_409(as_admin: Client, api_admin: APIClient, indexed: Archive) -> None:
    number = number_of(indexed, b"src/dated")
    Repository.objects.update(passphrase_encrypted=encryption.encrypt("wrong"))
    answer = as_admin.get(f"/archives/{indexed.pk}/download/{number}", follow=True)
    assert answer.redirect_chain[-1][0] == f"/archives/{indexed.pk}/browse"
    assert "The passphrase of the repository is wrong." in answer.getvalue().decode()
    api = api_admin.get(f"/api/archives/{indexed.pk}/download?entry={number}")
    assert (api.status_code, api.json()["error"]["message"]) == (409, "The passphrase of the repository is wrong.")


# --- Without borg -----------------------------------------------------------------------------


@pytest.fixture
def small(archive: Archive) -> Archive:
    catalog.build(archive, [entry(b"d/"), entry(b"d/file"), entry(b"d/link", mode="lrwxrwxrwx")])
    return archive


@pytest.mark.django_db
def test_only_files_and_folders_are_downloaded(as_admin: Client, api_admin: APIClient, small: Archive) -> None:
    number = number_of(small, b"d/link")
    answer = as_admin.get(f"/archives/{small.pk}/download/{number}", follow=True)
    assert "Only files and folders can be downloaded." in answer.getvalue().decode()
    assert api_admin.get(f"/api/archives/{small.pk}/download?path=d/link").status_code == 409
    assert not Job.objects.filter(type="download").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("number", [999, 2**63, 10**30])
def test_a_number_that_is_not_in_the_listing_is_said(as_admin: Client, small: Archive, number: int) -> None:
    answer = as_admin.get(f"/archives/{small.pk}/download/{number}", follow=True)
    assert "This entry is not in the archive&#x27;s listing." in answer.getvalue().decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400), ("?path=d&entry=1", 400), ("?entry=x", 400), ("?entry=0", 400), ("?entry=-1", 400),
        (f"?entry={10**30}", 400), ("?entry=999", 404), ("?path=nothing", 404), ("?path=", 404),
        ("?paht=d", 400), ("?path=../etc", 404), ("?path=d/../d/file", 404), ("?path=d/./file", 404),
        ("?path=d&format=rar", 400), ("?path=d&format=", 400), ("?path=d&format=ZIP", 400),
        ("?path=d&format=json", 400),
        ("?path=d/file&format=zip", 400), ("?path=nothing&format=zip", 404),
    ],
)  # fmt: skip
def test_the_api_refuses_what_names_nothing(api_admin: APIClient, small: Archive, query: str, status: int) -> None:
    answer = api_admin.get(f"/api/archives/{small.pk}/download{query}")
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert not Job.objects.filter(type="download").exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "packing", "said"),
    [
        (b"d", "rar", "A folder can be had as: tar.zst, tar.gz, zip, tar."),
        (b"d/file", "zip", "Only a folder has a format"),
    ],
)
def test_a_format_that_there_is_not_is_said(
    as_admin: Client, small: Archive, path: bytes, packing: str, said: str
) -> None:
    number = number_of(small, path)
    answer = as_admin.get(f"/archives/{small.pk}/download/{number}?format={packing}", follow=True)
    assert said in answer.getvalue().decode()
    assert not Job.objects.filter(type="download").exists()


@pytest.mark.django_db
def test_a_part_that_is_not_there_starts_no_job(as_admin: Client, api_admin: APIClient, small: Archive) -> None:
    number = number_of(small, b"d/file")
    for client, path in (
        (as_admin, f"/archives/{small.pk}/download/{number}"),
        (api_admin, f"/api/archives/{small.pk}/download?entry={number}"),
    ):
        answer = client.get(path, headers={"Range": "bytes=999-"})
        assert (answer.status_code, answer["Content-Range"][:8]) == (416, "bytes */")
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_who_asks_for_the_headers_alone_starts_nothing(api_admin: APIClient, small: Archive) -> None:
    """Red when HEAD does what GET does: borg would read all of it for nobody."""
    path = f"/api/archives/{small.pk}/download"
    file, folder = api_admin.head(f"{path}?path=d/file"), api_admin.head(f"{path}?path=d&format=zip")
    assert (file.status_code, file["Accept-Ranges"], file["ETag"][0]) == (200, "bytes", '"')
    assert (folder.status_code, folder["Accept-Ranges"]) == (200, "none")
    assert 'filename="d.zip"' in folder["Content-Disposition"]
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_an_archive_that_was_deleted_meanwhile_is_404(as_admin: Client, api_admin: APIClient, small: Archive) -> None:
    number, pk = number_of(small, b"d/file"), small.pk
    small.delete()
    for path in (f"download/{number}", f"preview/{number}", f"preview/{number}/image"):
        assert as_admin.get(f"/archives/{pk}/{path}").status_code == 404
    assert api_admin.get(f"/api/archives/{pk}/download?entry={number}").status_code == 404


@pytest.mark.django_db
def test_before_the_listing_is_read_nothing_can_be_named(
    as_admin: Client, api_admin: APIClient, archive: Archive
) -> None:
    assert as_admin.get(f"/archives/{archive.pk}/download/1")["Location"] == f"/archives/{archive.pk}/browse"
    answer = api_admin.get(f"/api/archives/{archive.pk}/download?path=etc")
    assert answer.json()["error"]["message"] == "The listing of this archive has not been read yet."
    assert answer.status_code == 409


@pytest.mark.django_db
def test_only_who_may_restore_downloads(
    as_operator: Client, as_viewer: Client, api_operator: APIClient, api_viewer: APIClient, small: Archive
) -> None:
    for page in (as_operator, as_viewer):
        assert page.get(f"/archives/{small.pk}/download/1").status_code == 403
        assert "/download/" not in page.get(f"/archives/{small.pk}/browse").getvalue().decode()
    for api in (api_operator, api_viewer):
        assert api.get(f"/api/archives/{small.pk}/download?entry=1").status_code == 403
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_without_a_worker_it_gives_up_and_cancels_its_job(small: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backups.downloads.FIRST_PIECE_SECONDS", 0.05)
    monkeypatch.setattr("jobs.queue.live_workers", lambda: ["busy"])
    with pytest.raises(DownloadFailed, match=r"No worker was free for the download\. Try again later\."):
        start_download(small, number_of(small, b"d/file"), user=None, trigger=Job.Trigger.USER)
    assert Job.objects.get().status == "cancelled"


def away() -> list[str]:
    raise RedisError


@pytest.mark.django_db
@pytest.mark.parametrize("alive", [list, away], ids=["no worker", "no Redis"])
def test_with_no_worker_there_a_program_is_told_when_to_come_back(
    api_admin: APIClient,
    as_admin: Client,
    small: Archive,
    monkeypatch: pytest.MonkeyPatch,
    alive: Callable[[], list[str]],
) -> None:
    monkeypatch.setattr("jobs.queue.live_workers", alive)
    number = number_of(small, b"d/file")
    answer = api_admin.get(f"/api/archives/{small.pk}/download?entry={number}")
    assert (answer.status_code, answer["Retry-After"]) == (503, "30")
    assert answer.json()["error"]["code"] == "unavailable"
    assert as_admin.get(f"/archives/{small.pk}/download/{number}")["Location"] == f"/archives/{small.pk}/browse"
    assert not Job.objects.exists()


@pytest.mark.django_db
@pytest.mark.usefixtures("one_thread")
def test_a_job_whose_listing_went_away_says_so(small: Archive) -> None:
    job = DownloadFile.enqueue(small, entry=number_of(small, b"d/file"))
    catalog.drop(small)
    assert run_now(job).error == "The listing of this archive is gone; read it anew, then try again."


def item(name: bytes, kind: str = "-") -> Item:
    return Item(1, 0, name, kind, kind + "rw-r--r--", "root", "root", 3, 1, None, b"", True)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (b"hosts", "-", "filename=\"hosts\"; filename*=UTF-8''hosts"),
        (b"etc", "d", "filename=\"etc.tar\"; filename*=UTF-8''etc.tar"),
        (b'a"; filename=evil.exe', "-",
         "filename=\"a__ filename_evil.exe\"; filename*=UTF-8''a%22%3B%20filename%3Devil.exe"),
        (b"two\r\nSet-Cookie: x=1", "-",
         "filename=\"two_r_nSet-Cookie_ x_1\"; filename*=UTF-8''two%5Cr%5CnSet-Cookie%3A%20x%3D1"),
        ("été.txt".encode(), "-", "filename=\"_t_.txt\"; filename*=UTF-8''%C3%A9t%C3%A9.txt"),
        (b"latin-\xe9", "-", "filename=\"latin-_xe9\"; filename*=UTF-8''latin-%5Cxe9"),
        (b"..\\..\\x", "-", "filename=\".._.._x\"; filename*=UTF-8''..%5C..%5Cx"),
        ("😀".encode(), "d", "filename=\"_.tar\"; filename*=UTF-8''%F0%9F%98%80.tar"),
    ],
)  # fmt: skip
def test_a_hostile_name_stays_within_its_header(name: bytes, kind: str, expected: str) -> None:
    header = disposition(Wanted(Archive(), item(name, kind), name, 3).file_name())
    assert header == f"attachment; {expected}"
    header.encode("ascii")
