"""The unit of work: one transaction, its repositories, and the translation of PostgreSQL's refusals.

Constraint names become domain errors here and nowhere else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg2
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.db.accept import Acceptor, AcceptRepository, AlreadyWritten, CreateWriter
from shared.db.activity import ActivityRepository
from shared.db.audit import AuditRepository
from shared.db.budgets import BudgetRepository
from shared.db.cleanup import CleanupRepository
from shared.db.cluster_types import ClusterTypeRepository
from shared.db.clusters import ClusterRepository
from shared.db.gauges import GaugeRepository
from shared.db.grants import GrantRepository
from shared.db.jobs import JobRepository
from shared.db.metrics import MetricsRepository
from shared.db.placements import PlacementRepository
from shared.db.plans import PlanRepository
from shared.db.rates import RateCardRepository
from shared.db.savings import SavingsRepository
from shared.db.scaling import ScalePolicyRepository
from shared.db.scopes import ScopeRepository
from shared.db.series import SeriesRepository
from shared.db.stacks import StackRepository
from shared.db.telemetry import TelemetryRepository
from shared.db.usage import UsageRepository
from shared.db.webhooks import WebhookRepository
from shared.errors import AlreadyExists, Conflict, FieldError, KcloudError, Unavailable

_CONSTRAINTS: dict[str, tuple[type[KcloudError], str, str]] = {
    "uq_clusters_live_name": (AlreadyExists, "name", "A cluster of this name exists in the project."),
    "uq_clusters_magnum_uuid": (Conflict, "magnum_uuid", "Another row holds this Magnum cluster."),
    "uq_stacks_live_name": (AlreadyExists, "name", "A stack of this name exists in the project."),
    "ex_address_ranges_overlap": (Conflict, "cidr", "Another network of this installation holds an address of this range."),
    "uq_budgets_name": (AlreadyExists, "name", "The project has a budget of this name."),
    "uq_webhooks_url": (AlreadyExists, "url", "The project has a webhook of this address."),
    "uq_plans_one_applying": (Conflict, "plan_id", "Another plan of the project is being applied."),
    "uq_jobs_one_acting": (Conflict, "cluster_id", "Another job acts on this cluster."),
}


class UnitOfWork:
    """One open transaction. Commit happens when the block that holds it ends without an exception."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.accept = AcceptRepository(connection)
        self.jobs = JobRepository(connection)
        self.clusters = ClusterRepository(connection)
        self.scopes = ScopeRepository(connection)
        self.series = SeriesRepository(connection)
        self.metrics = MetricsRepository(connection)
        self.telemetry = TelemetryRepository(connection)
        self.usage = UsageRepository(connection)
        self.rates = RateCardRepository(connection)
        self.audit = AuditRepository(connection)
        self.gauges = GaugeRepository(connection)
        self.grants = GrantRepository(connection)
        self.stacks = StackRepository(connection)
        self.types = ClusterTypeRepository(connection)
        self.activity = ActivityRepository(connection)
        self.budgets = BudgetRepository(connection)
        self.cleanup = CleanupRepository(connection)
        self.webhooks = WebhookRepository(connection)
        self.placements = PlacementRepository(connection)
        self.savings = SavingsRepository(connection)
        self.scaling = ScalePolicyRepository(connection)
        self.plans = PlanRepository(connection)


class Database:
    """Opens units of work."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._write = CreateWriter(engine)
        self.acceptor = Acceptor(self._write_creates)

    def _write_creates(self, rows: str) -> list[UUID]:
        with _translated():
            return self._write(rows)

    @contextmanager
    def begin(self) -> Iterator[UnitOfWork]:
        """A transaction. Raises :class:`Unavailable` where the database cannot be reached."""
        with _translated(), self.engine.begin() as connection:
            yield UnitOfWork(connection)

    @contextmanager
    def single(self) -> Iterator[UnitOfWork]:
        """For work that is one statement: committed by itself, which saves two round trips."""
        with _translated(), self._autocommit.connect() as connection:
            yield UnitOfWork(connection)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, psycopg2.IntegrityError) as exc:
        cause = exc.orig if isinstance(exc, IntegrityError) else exc
        name = getattr(getattr(cause, "diag", None), "constraint_name", None)
        if name in {"pk_clusters", "pk_jobs"}:  # ids are random: only our own row can be in the way
            raise AlreadyWritten from exc
        known = _CONSTRAINTS.get(name or "")
        if known is None:
            raise
        error, field, detail = known
        raise error(detail, errors=[FieldError(field, "unique", detail)]) from exc
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
        raise _away() from exc
    except PoolTimeout as exc:
        msg = "The database has no free connection."
        raise Unavailable(msg, reason="DATABASE_BUSY", retry_after_s=2) from exc
    except DBAPIError as exc:
        if exc.connection_invalidated or isinstance(exc.orig, psycopg2.OperationalError | psycopg2.InterfaceError):
            raise _away() from exc
        raise


def _away() -> Unavailable:
    msg = "The database does not answer."
    return Unavailable(msg, reason="DATABASE_UNAVAILABLE", retry_after_s=2)
