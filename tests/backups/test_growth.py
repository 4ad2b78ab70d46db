"""What is stored on each day, and until when there is room."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from backups import growth
from backups.maintenance import note_storage
from backups.models import Repository, StorageDay, StoragePool

TB = 10**12


def days_of(pool: StoragePool, *used: int | None) -> None:
    """What was used on the last days, today last."""
    today = timezone.now().date()
    StorageDay.objects.bulk_create(
        StorageDay(pool=pool, day=today - timedelta(days=len(used) - 1 - n), used_bytes=bytes_)
        for n, bytes_ in enumerate(used)
    )


def test_a_day_is_written_down_once_and_becomes_what_it_is_last(pool: StoragePool, repository: Repository) -> None:
    StoragePool.objects.update(total_bytes=100, free_bytes=70)
    for size in (10, 20):
        Repository.objects.update(original_bytes=3 * size, compressed_bytes=2 * size, deduplicated_bytes=size)
        assert note_storage() == 1
    day = StorageDay.objects.get()
    assert (day.pool, day.day, day.used_bytes) == (pool, timezone.now().date(), 30)
    assert (day.original_bytes, day.compressed_bytes, day.deduplicated_bytes) == (60, 40, 20)


def test_a_pool_of_which_nothing_is_known_is_written_down_too(pool: StoragePool) -> None:
    assert note_storage() == 1
    assert StorageDay.objects.get().used_bytes is None


def test_days_are_forgotten_after_some_years(pool: StoragePool) -> None:
    for age in (growth.KEPT, growth.KEPT + timedelta(days=1)):
        StorageDay.objects.create(pool=pool, day=timezone.now().date() - age)
    note_storage()
    assert StorageDay.objects.count() == 2


def test_history_adds_up_all_pools(pool: StoragePool) -> None:
    other = StoragePool.objects.create(name="other", path="/srv/other")
    today = timezone.now().date()
    for each, size in ((pool, 1), (other, 2)):
        for ago in (0, 3, 40):
            StorageDay.objects.create(
                pool=each, day=today - timedelta(days=ago), original_bytes=100 * size, compressed_bytes=10 * size,
                deduplicated_bytes=size,
            )  # fmt: skip
    found = growth.history(30)
    assert [day.day for day in found] == [today - timedelta(days=3), today]
    assert (found[0].original, found[0].compressed, found[0].deduplicated) == (300, 30, 3)


def test_a_pool_that_grows_by_a_tenth_a_day_is_full_when_the_rest_is_used(pool: StoragePool) -> None:
    pool.free_bytes, pool.total_bytes = 5 * TB, 10 * TB
    days_of(pool, 2 * TB, 3 * TB, 4 * TB, 5 * TB)
    foreseen = growth.forecasts([pool])[pool.pk]
    assert foreseen.bytes_a_day == pytest.approx(TB)
    assert foreseen.full_on == timezone.now().date() + timedelta(days=5)


@pytest.mark.parametrize("used", [(5, 5, 5), (7, 6, 5), (5 * TB, 5 * TB + 1, 5 * TB + 2)])
def test_one_that_does_not_grow_or_hardly_has_room_for_years(pool: StoragePool, used: tuple[int, ...]) -> None:
    pool.free_bytes = 5 * TB
    days_of(pool, *used)
    assert growth.forecasts([pool])[pool.pk].full_on is None


@pytest.mark.parametrize("used", [(), (1, 2), (1, None, 2)])
def test_from_too_little_nothing_is_foreseen(pool: StoragePool, used: tuple[int | None, ...]) -> None:
    pool.free_bytes = 5
    days_of(pool, *used)
    assert growth.forecasts([pool]) == {}


def test_a_pool_that_tells_no_free_space_has_no_forecast(pool: StoragePool) -> None:
    days_of(pool, 1, 2, 3)
    assert growth.forecasts([pool]) == {}


def test_the_pages_say_when_it_will_be_full(as_viewer: Client, repository: Repository) -> None:
    StoragePool.objects.update(free_bytes=5 * TB, total_bytes=10 * TB)
    days_of(repository.pool, 2 * TB, 3 * TB, 4 * TB, 5 * TB)
    for path in ("/", f"/pools/{repository.pool_id}"):
        assert "at the pace of the last 30 days" in as_viewer.get(path).content.decode()
