"""Usage per node group, with overlaps refused by the database; rate cards.

Old code is still running while this is applied: it writes no node group, and a trigger names the one that its role means.

Revision: 0008
Follows: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None

#: GiST indexes of PostgreSQL itself know ranges, but neither uuid nor text; btree_gist, which does, is not everywhere.
_RANGES = """
CREATE TYPE kcloud_uuid_range AS RANGE (subtype = uuid);
CREATE TYPE kcloud_text_range AS RANGE (subtype = text, collation = "C");
"""
_NO_OVERLAP = """
ALTER TABLE usage_intervals ADD CONSTRAINT ex_usage_intervals_overlap EXCLUDE USING gist (
  kcloud_uuid_range(cluster_id, cluster_id, '[]') WITH &&, kcloud_text_range(node_group, node_group, '[]') WITH &&,
  tstzrange(started_at, ended_at) WITH &&)
"""
_NAME_GROUP = """
CREATE FUNCTION kcloud_name_usage_group() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.node_group := 'default-' || NEW.role;
  RETURN NEW;
END $$;
CREATE TRIGGER usage_group_named BEFORE INSERT ON usage_intervals FOR EACH ROW WHEN (NEW.node_group IS NULL)
  EXECUTE FUNCTION kcloud_name_usage_group();
"""
#: Intervals of one role never overlapped by the code that wrote them; should some do, the earlier one ends where the next begins.
_MEND = """
UPDATE usage_intervals u SET ended_at = n.next FROM (SELECT id, lead(started_at) OVER (PARTITION BY cluster_id, role
  ORDER BY started_at, id) AS next FROM usage_intervals) n WHERE n.id = u.id AND n.next IS NOT NULL AND (u.ended_at IS NULL OR u.ended_at > n.next)
"""


def upgrade() -> None:
    """Apply."""
    op.execute(_RANGES)
    op.add_column("usage_intervals", sa.Column("node_group", sa.Text(), nullable=True))
    op.add_column("usage_intervals", sa.Column("exact", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.execute("UPDATE usage_intervals SET node_group = 'default-' || role")
    op.execute(_MEND)
    op.alter_column("usage_intervals", "node_group", nullable=False)
    op.execute(_NAME_GROUP)
    op.drop_index("uq_usage_intervals_open", table_name="usage_intervals")
    op.create_index(
        "uq_usage_intervals_open",
        "usage_intervals",
        ["cluster_id", "node_group"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "ix_usage_intervals_doubted",
        "usage_intervals",
        ["cluster_id"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL AND NOT exact"),
    )
    op.execute(_NO_OVERLAP)
    op.create_table(
        "rate_cards",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name=op.f("ck_rate_cards_order")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_rate_cards_currency")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rate_cards")),
    )
    op.create_index("ix_rate_cards_project", "rate_cards", ["project_id", "valid_from"], unique=False)


def downgrade() -> None:
    """Take back. The groups of a role are added up again, and what remains is a total at the flavor of the first."""
    op.drop_table("rate_cards")
    op.execute("ALTER TABLE usage_intervals DROP CONSTRAINT ex_usage_intervals_overlap")
    op.execute("DROP TRIGGER usage_group_named ON usage_intervals")
    op.execute("DROP FUNCTION kcloud_name_usage_group")
    op.drop_index("ix_usage_intervals_doubted", table_name="usage_intervals")
    op.drop_index("uq_usage_intervals_open", table_name="usage_intervals")
    op.execute(_ADD_UP)
    op.drop_column("usage_intervals", "exact")
    op.drop_column("usage_intervals", "node_group")
    op.create_index(
        "uq_usage_intervals_open",
        "usage_intervals",
        ["cluster_id", "role"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.execute("DROP TYPE kcloud_uuid_range")
    op.execute("DROP TYPE kcloud_text_range")


#: Node-seconds stay what they were: between any two changes, one interval with the sum of the groups.
_ADD_UP = """
CREATE TEMPORARY TABLE usage_before ON COMMIT DROP AS SELECT * FROM usage_intervals;
DELETE FROM usage_intervals;
INSERT INTO usage_intervals (cluster_id, project_id, region, role, node_group, flavor, node_count, started_at, ended_at)
SELECT s.cluster_id, min(u.project_id), min(u.region), s.role, 'default-' || s.role, (array_agg(u.flavor ORDER BY u.node_group))[1],
  sum(u.node_count), s.start, s.until
FROM (SELECT cluster_id, role, at AS start, lead(at) OVER (PARTITION BY cluster_id, role ORDER BY at NULLS LAST) AS until
  FROM (SELECT cluster_id, role, started_at AS at FROM usage_before UNION SELECT cluster_id, role, ended_at FROM usage_before) AS moments) AS s
JOIN usage_before u ON u.cluster_id = s.cluster_id AND u.role = s.role AND u.started_at <= s.start
  AND (u.ended_at IS NULL OR u.ended_at > s.start)
WHERE s.start IS NOT NULL GROUP BY s.cluster_id, s.role, s.start, s.until
"""
