"""What a tick reads of a list, and what it leaves for the next one."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.clusters import ObservedCluster
from shared.domain.pacing import Look
from shared.errors import CloudBeingWritten, CloudNotFound
from shared.services.looking import Gap, Seen, Watcher, back_to

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def now(self) -> datetime:
        return T0


class Listing:
    """A list of clusters, newest change first; the one at ``broken`` makes its page fail."""

    def __init__(self, count: int) -> None:
        self.items = [
            ObservedCluster(f"u{n}", f"c{n}", "CREATE_COMPLETE", 1, 1, updated_at=T0 - timedelta(seconds=n)) for n in range(count)
        ]
        self.pages: list[tuple[str | None, int]] = []
        self.broken: int | None = None
        self.missing: str | None = None

    def page(self, *, limit: int, marker: str | None = None, newest_first: bool = False) -> list[ObservedCluster]:
        assert newest_first
        self.pages.append((marker, limit))
        if marker is not None and marker == self.missing:
            raise CloudNotFound("gone")
        start = 0 if marker is None else next(i for i, item in enumerate(self.items) if item.uuid == marker) + 1
        if self.broken is not None and start <= self.broken < start + limit:
            raise CloudBeingWritten("half written")
        return self.items[start : start + limit]


def watch(listing: Listing, since_s: int, gap: Gap | None = None, *, budget_s: float = 10.0, expected: int = 5) -> Seen:
    seen = Seen(Look.NEWEST)
    watcher = Watcher(listing, Clock(), seen, page_size=50, budget_s=budget_s)  # type: ignore[arg-type]  # pages alone are asked for
    watcher.newest(T0 - timedelta(seconds=since_s), gap, expected)
    return seen


def test_reads_back_to_the_mark_and_no_further() -> None:
    listing = Listing(1000)
    seen = watch(listing, since_s=60)
    assert listing.pages == [(None, 20), ("u19", 50)]
    assert seen.watermark == T0
    assert seen.gap is None
    assert {f"u{n}" for n in range(60)} <= set(seen.found)


def test_out_of_time_leaves_a_gap_that_the_next_tick_closes() -> None:
    listing = Listing(300)
    first = watch(listing, since_s=200, budget_s=0.0)
    assert first.found == {}
    assert first.gap == Gap(T0 - timedelta(seconds=200), None)
    second = watch(listing, since_s=1, gap=Gap(T0 - timedelta(seconds=200), "u69"))
    assert second.gap is None
    assert {f"u{n}" for n in range(70, 200)} <= set(second.found)


def test_a_gap_that_is_not_reached_keeps_its_end() -> None:
    older = Gap(T0 - timedelta(seconds=500), "u300")
    seen = watch(Listing(600), since_s=100, gap=older, budget_s=0.0)
    assert seen.gap == Gap(older.until, None)


def test_a_half_written_cluster_stops_the_reading_and_loses_nothing() -> None:
    listing = Listing(300)
    listing.broken = 30
    seen = watch(listing, since_s=100)
    assert seen.refused == "CLUSTER_BEING_WRITTEN"
    assert seen.gap == Gap(T0 - timedelta(seconds=100), "u19")


def test_a_marker_that_vanished_begins_again_from_the_top() -> None:
    listing = Listing(300)
    listing.missing = "u19"
    seen = watch(listing, since_s=100)
    assert seen.gap == Gap(T0 - timedelta(seconds=100), None)


def test_a_gap_survives_the_row_it_is_kept_in() -> None:
    gap = Gap(T0, "u1")
    assert Gap.from_dict({"gap": gap.as_dict()}) == gap
    assert Gap.from_dict({}) is None


@pytest.mark.parametrize(
    "watermark, since",
    [
        (None, timedelta(minutes=-2)),
        (T0 + timedelta(hours=1), timedelta(minutes=60, seconds=-2)),
        (T0 - timedelta(days=1), timedelta(minutes=-2)),
    ],
)
def test_reads_back_to_the_mark_or_to_the_oldest_job(watermark: datetime | None, since: timedelta) -> None:
    assert back_to(watermark, T0) == T0 + since
