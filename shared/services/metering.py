"""What clusters run and draw, sampled and rolled up. Quantities are stored; :mod:`shared.services.costs` prices them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from shared.domain import rating
from shared.domain.costing import watts
from shared.domain.metrics import FIELDS
from shared.domain.rates import Book
from shared.errors import FieldError, InvalidRequest, KcloudError, NotFound
from shared.services.costs import node_per_hour
from shared.services.rates import book_of, card_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.db.uow import Database
    from shared.domain.accelerators import NodeShape
    from shared.domain.clusters import Cluster
    from shared.domain.ports import Actor, Clock, Cloud
    from shared.services.accelerators import AcceleratorService
    from shared.services.catalogs import Catalogs

_LONGEST_STEPS = 10_000
_LONGEST_DAYS = 1000
_COST_STEP_S = 60.0
#: What meters said longer ago is not what a cluster draws now.
_FRESH_S = 90.0


class MeteringService:
    """Metrics of the actor's project, and the sampling that feeds them."""

    def __init__(
        self,
        database: Database,
        cloud: Cloud,
        catalogs: Catalogs,
        accelerators: AcceleratorService,
        clock: Clock,
        *,
        region: str,
    ) -> None:
        self._database = database
        self._cloud = cloud
        self._catalogs = catalogs
        self._accelerators = accelerators
        self._clock = clock
        self._region = region

    def metrics(
        self,
        actor: Actor,
        cluster_ref: str,
        *,
        start: datetime | None,
        end: datetime | None,
        step_s: float | None,
        fields: Sequence[str] = tuple(FIELDS),
    ) -> dict[str, Any]:
        """The cluster's figures (of ``FIELDS``) over [start, end), by default the last hour, by steps (default a minute)."""
        cluster = self._cluster(actor, cluster_ref)
        begin, finish = self._window(start, end, timedelta(hours=1))
        step = step_s or 60.0
        if (finish - begin).total_seconds() / step > _LONGEST_STEPS:
            words = f"The window has more than {_LONGEST_STEPS} steps of {step:g} s; ask for a longer step or a shorter window."
            raise InvalidRequest(words, errors=[FieldError("step", "max_steps", words)])
        with self._database.single() as uow:
            points = uow.metrics.of_cluster(cluster.id, begin, finish, step, fields)
        return {"cluster_id": str(cluster.id), "start": begin, "end": finish, "step_seconds": step, "points": points}

    def by_day(self, actor: Actor, *, start: datetime | None, end: datetime | None) -> dict[str, Any]:
        """What the project's clusters ran and drew, by whole days of UTC that touch [start, end); by default the last 30 days."""
        begin, finish = self._window(start, end, timedelta(days=30))
        first = begin.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if (finish - first).days > _LONGEST_DAYS:
            words = f"The window has more than {_LONGEST_DAYS} days."
            raise InvalidRequest(words, errors=[FieldError("start", "max_days", words)])
        with self._database.single() as uow:
            days = uow.metrics.by_project([actor.project_id], first, finish)
        return {"project_id": actor.project_id, "start": first, "end": finish, "days": days}

    def roll_metrics(self, *, budget_s: float) -> int:
        """Bring the roll-ups of samples up to date, hours that were away longest first; how many hours. Goes on the next time
        where ``budget_s`` seconds did not do.
        """
        hours, until = 0, monotonic() + budget_s
        while monotonic() < until:
            with self._database.begin() as uow:
                done = uow.metrics.roll()
            hours += done
            if not done:
                break
        return hours

    def sample(self, *, every_s: float) -> int:
        """Add one sample per live cluster; how many. Two beats don't double it: one sample in ``every_s`` is made."""
        rates = self._priced(self._shapes())
        with self._database.begin() as uow:
            gap_s = uow.series.gap_s("cluster_metrics")
            if not uow.series.turn("cluster_metrics", every_s=every_s * 0.8):
                return 0
            # Longer without a sample, and it is not known what was drawn meanwhile.
            lasts_s = gap_s if gap_s <= 2 * every_s else 0.0
            return uow.series.sample_metrics(
                rates, rating.DEFAULT_RATE.as_dict(), fresh_s=max(_FRESH_S, 3 * every_s), lasts_s=lasts_s
            )

    def roll(self) -> int:
        """Continue the cost series up to now; how many spans were added."""
        rates = _drawing(self._shapes())
        with self._database.begin() as uow:
            return uow.series.roll_costs(rates, rating.DEFAULT_RATE.as_dict(), step_s=_COST_STEP_S)

    def _cluster(self, actor: Actor, ref: str) -> Cluster:
        with self._database.single() as uow:
            cluster = uow.clusters.get(actor.project_id, ref)
        if cluster is None:
            msg = f"The project has no cluster {ref!r}."
            raise NotFound(msg, reason="CLUSTER_NOT_FOUND")
        return cluster

    def _shapes(self) -> dict[str, NodeShape]:
        """What nodes have, by the flavor's name and by its id; where the cloud is away, the default stands in for all."""
        try:
            return self._accelerators.shapes(self._catalogs.get(self._cloud.own_scope()))
        except KcloudError:
            return {}

    def _priced(self, shapes: Mapping[str, NodeShape]) -> list[dict[str, Any]]:
        """Watts and prices of this moment of each flavor: by the site's rate cards, and for projects with cards of their own by theirs."""
        now = self._clock.now()
        with self._database.begin() as uow:
            books: dict[str | None, Book] = {None: Book(card_of(held) for held in uow.rates.site())}
            books |= {project: book_of(uow, project) for project in uow.rates.projects()}
        return [
            one | {"project_id": project, "price_per_hour": float(node_per_hour(book, one["flavor"], shapes[one["flavor"]], now))}
            for project, book in books.items()
            for one in _drawing(shapes)
        ]

    def _window(
        self, start: datetime | None, end: datetime | None, usual: timedelta | None, *, since: datetime | None = None
    ) -> tuple[datetime, datetime]:
        now = self._clock.now()
        finish = end or now
        begin = start or (finish - usual if usual else since or finish - timedelta(days=1))
        if begin.tzinfo is None:
            begin = begin.replace(tzinfo=UTC)
        if finish.tzinfo is None:
            finish = finish.replace(tzinfo=UTC)
        if begin > finish or (start is not None and begin == finish):
            words = "start must come before end."
            raise InvalidRequest(words, errors=[FieldError("start", "before_end", words)])
        return begin, finish


def _drawing(shapes: Mapping[str, NodeShape]) -> list[dict[str, Any]]:
    return [{"flavor": name, "watts": float(watts(shape))} for name, shape in shapes.items()]
