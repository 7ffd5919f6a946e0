"""Hypertables, where TimescaleDB is there.

On a plain PostgreSQL the same names stand for ordinary tables. A database that gets the extension later is converted by
running this step's statements by hand (docs/runbooks).

Revision: 0002
Follows: 0001
"""

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: table -> length of a chunk. A day of metrics at 30 s and 1,000 clusters is 3 M rows, which fits in memory.
CHUNKS = {"cluster_metrics": "1 day", "cluster_costs": "7 days"}


def upgrade() -> None:
    """Apply."""
    connection = op.get_bind()
    offered = connection.execute(text("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'")).first()
    loaded = connection.execute(text("SELECT 1 FROM pg_settings WHERE name LIKE 'timescaledb%' LIMIT 1")).first()
    if not offered or not loaded:
        return
    connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    for table, chunk in CHUNKS.items():
        connection.execute(
            text(
                "SELECT create_hypertable(CAST(:table AS regclass), 'time', chunk_time_interval => CAST(:chunk AS interval),"
                " create_default_indexes => false, migrate_data => true, if_not_exists => true)"
            ),
            {"table": table, "chunk": chunk},
        )


def downgrade() -> None:
    """Nothing to take back: the tables go with the step before, and the extension may serve others."""
