"""Roll-ups of projects by day: ``project_metrics_daily``, so that questions about projects don't add up all of their clusters' days.

With TimescaleDB a continuous aggregate of ``cluster_metrics_daily``. On a plain PostgreSQL a view like the others (docs/adr/0015): a
table, and for days with a marked hour the clusters' days themselves. The table is written by a trigger on the clusters' days, so
that it is right whoever writes these.

Old code is still running while this is applied: expand first, contract in a later release.

Revision: 0015
Follows: 0014
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_KINDS = ("nodes", "masters", "watts", "price", "cpu", "gpu", "pods")
_COUNTS = ("samples", *(f"{kind}_samples" for kind in _KINDS))
#: column -> over the clusters' days.
_SUMS = {
    "clusters": "count(*)",
    **{name: f"CAST(sum({name}) AS bigint)" for name in _COUNTS},
    **{f"{kind}_sum": f"sum({kind}_sum)" for kind in _KINDS},
    "watts_min": "min(watts_min)",
    "watts_max": "max(watts_max)",
    "cpu_peak": "max(cpu_peak)",
    "gpu_peak": "max(gpu_peak)",
    "joules": "sum(joules)",
    "seconds": "sum(seconds)",
}
_NAMES = ", ".join(_SUMS)
_MADE = ", ".join(f"{made} AS {name}" for name, made in _SUMS.items())
_MARKED = "SELECT DISTINCT date_trunc('day', hour, 'UTC') FROM metric_changes"

_ADD_UP = f"""
CREATE FUNCTION add_up_project_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM metrics_by_project_day WHERE day IN (SELECT DISTINCT day FROM changed);
    INSERT INTO metrics_by_project_day (day, project_id, {_NAMES})
    SELECT day, project_id, {_MADE} FROM metrics_by_day WHERE day IN (SELECT DISTINCT day FROM changed) GROUP BY day, project_id;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    """Apply."""
    if _timescale():
        op.execute(
            "CREATE MATERIALIZED VIEW project_metrics_daily WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS"
            f" SELECT time_bucket(INTERVAL '1 day', day) AS day, project_id, {_MADE} FROM cluster_metrics_daily GROUP BY 1, 2 WITH NO DATA"
        )
        op.execute(
            "SELECT add_continuous_aggregate_policy('project_metrics_daily', start_offset => NULL, end_offset => INTERVAL '1 day',"
            " schedule_interval => INTERVAL '10 minutes')"
        )
        return
    op.create_table(
        "metrics_by_project_day",
        sa.Column("day", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("clusters", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        *(sa.Column(name, sa.Double(), nullable=True) for name in _SUMS if name not in {"clusters", *_COUNTS}),
        sa.PrimaryKeyConstraint("project_id", "day", name=op.f("pk_metrics_by_project_day")),
    )
    op.create_index("ix_metrics_by_project_day_day", "metrics_by_project_day", ["day"], unique=False)
    op.execute(_ADD_UP)
    for event, rows in (("INSERT", "NEW"), ("DELETE", "OLD")):
        op.execute(
            f"CREATE TRIGGER add_up_project_days_{event.lower()} AFTER {event} ON metrics_by_day REFERENCING {rows} TABLE AS changed"
            " FOR EACH STATEMENT EXECUTE FUNCTION add_up_project_days()"
        )
    op.execute(
        f"INSERT INTO metrics_by_project_day (day, project_id, {_NAMES})"
        f" SELECT day, project_id, {_MADE} FROM metrics_by_day GROUP BY day, project_id"
    )
    op.execute(
        f"CREATE VIEW project_metrics_daily AS SELECT day, project_id, {_NAMES} FROM metrics_by_project_day t"
        f" WHERE t.day NOT IN ({_MARKED})"
        f" UNION ALL SELECT d.day, m.* FROM ({_MARKED}) d (day) CROSS JOIN LATERAL (SELECT project_id, {_MADE}"
        " FROM cluster_metrics_daily WHERE day = d.day GROUP BY project_id) m"
    )


def downgrade() -> None:
    """Take back; the clusters' days stay."""
    if _timescale():
        op.execute("DROP MATERIALIZED VIEW project_metrics_daily")
        return
    op.execute("DROP VIEW project_metrics_daily")
    for event in ("insert", "delete"):
        op.execute(f"DROP TRIGGER add_up_project_days_{event} ON metrics_by_day")
    op.execute("DROP FUNCTION add_up_project_days")
    op.drop_table("metrics_by_project_day")


def _timescale() -> bool:
    return op.get_bind().execute(text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")).first() is not None
