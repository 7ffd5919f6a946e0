"""Accelerators' memory and temperature in the metric series, and roll-ups of projects by day: ``project_metrics_daily``, so that questions
about projects don't add up all of their clusters' days.

With TimescaleDB a third continuous aggregate; the two others are made anew with the new columns, and filled again by its jobs. On a plain
PostgreSQL a view like the others (docs/adr/0015): a table, and for days with a marked hour the clusters' days themselves. The table
is written by a trigger on the clusters' days, so that it is right whoever writes these.

Old code is still running while this is applied: expand first, contract in a later release.

Revision: 0015
Follows: 0014
"""

import sqlalchemy as sa
from alembic import op

from shared.db.migrations import roll_ups

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_USE = ("gpu_memory_used_gb", "gpu_temperature_celsius")
_NEW = {
    **roll_ups.mean("memory", "gpu_memory_used_gb"),
    "temperature_peak": ("max(gpu_temperature_celsius)", "max(temperature_peak)"),
}
_ALL = {**roll_ups.FIRST, **_NEW}
#: column -> over the clusters' days. What is said of one cluster alone is left out.
_SUMS = {"clusters": "count(*)"} | {name: both[1] for name, both in _ALL.items() if name not in {"source", "last_at"}}
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
    for table in ("cluster_metrics", "telemetry_latest"):
        for name in _USE:
            op.add_column(table, sa.Column(name, sa.Double(), nullable=True))
    roll_ups.drop_views()
    if roll_ups.timescale():
        roll_ups.make_views(_ALL)
        op.execute(
            "CREATE MATERIALIZED VIEW project_metrics_daily WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS"
            f" SELECT time_bucket(INTERVAL '1 day', day) AS day, project_id, {_MADE} FROM cluster_metrics_daily GROUP BY 1, 2 WITH NO DATA"
        )
        roll_ups.refresh("project_metrics_daily", "day")
    else:
        for table in ("metrics_by_hour", "metrics_by_day"):
            for name in _NEW:
                op.add_column(table, _column(name))
        roll_ups.make_views(_ALL)
        _tables()


def downgrade() -> None:
    """Take back; the clusters' days stay, and with TimescaleDB are filled again."""
    if roll_ups.timescale():
        op.execute("DROP MATERIALIZED VIEW project_metrics_daily")
        roll_ups.drop_views()
    else:
        op.execute("DROP VIEW project_metrics_daily")
        roll_ups.drop_views()
        for event in ("insert", "delete"):
            op.execute(f"DROP TRIGGER add_up_project_days_{event} ON metrics_by_day")
        op.execute("DROP FUNCTION add_up_project_days")
        op.drop_table("metrics_by_project_day")
        for table in ("metrics_by_hour", "metrics_by_day"):
            for name in _NEW:
                op.drop_column(table, name)
    for table in ("cluster_metrics", "telemetry_latest"):
        for name in _USE:
            op.drop_column(table, name)
    roll_ups.make_views(roll_ups.FIRST)


def _tables() -> None:
    op.create_table(
        "metrics_by_project_day",
        sa.Column("day", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("clusters", sa.BigInteger(), nullable=False),
        *(_column(name) for name in _SUMS if name != "clusters"),
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


def _column(name: str) -> sa.Column[object]:
    """Old code writes rows without the new ones."""
    made = roll_ups.column(name)
    if name in _NEW and not made.nullable:
        made.server_default = sa.DefaultClause("0")
    return made
