"""Placements: capacity held for workloads; what has changed of the nodes that they lie on; jobs that belong to no one cluster.

Old code is still running while this is applied: expand first, contract in a later release.

Revision: 0004
Follows: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OLD_KINDS = (
    "'create','resize','delete','add_node_group','remove_node_group','upgrade','hibernate','wake',"
    "'create_stack','update_stack','delete_stack'"
)
_KINDS = f"kind IN ({_OLD_KINDS},'match','optimize')"
_TARGET = (
    "CASE WHEN kind IN ('match','optimize') THEN num_nonnulls(cluster_id, stack_id) = 0"
    " ELSE num_nonnulls(cluster_id, stack_id) = 1 AND (right(kind, 6) = '_stack') = (stack_id IS NOT NULL) END"
)
_OLD_TARGET = "num_nonnulls(cluster_id, stack_id) = 1 AND (right(kind, 6) = '_stack') = (stack_id IS NOT NULL)"
_NOTE = """
CREATE FUNCTION kcloud_note_cluster() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO fleet_changes (region, project_id, cluster_id) VALUES (NEW.region, NEW.project_id, NEW.id);
  RETURN NULL;
END $$;
CREATE FUNCTION kcloud_note_group() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO fleet_changes (region, project_id, cluster_id)
    SELECT region, project_id, id FROM clusters WHERE id = coalesce(NEW.cluster_id, OLD.cluster_id);
  RETURN NULL;
END $$;
CREATE FUNCTION kcloud_note_placement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO fleet_changes (region, project_id, cluster_id) VALUES
    (coalesce(NEW.region, OLD.region), coalesce(NEW.project_id, OLD.project_id), coalesce(NEW.cluster_id, OLD.cluster_id));
  RETURN NULL;
END $$;
CREATE TRIGGER fleet_cluster_found AFTER INSERT ON clusters FOR EACH ROW WHEN (NEW.first_seen_at IS NOT NULL)
  EXECUTE FUNCTION kcloud_note_cluster();
CREATE TRIGGER fleet_cluster_changed AFTER UPDATE ON clusters FOR EACH ROW
  WHEN ((OLD.phase, OLD.live, OLD.observed_node_count, OLD.node_count, OLD.observed_master_count, OLD.flavor, OLD.master_flavor,
         OLD.labels, OLD.health_status, OLD.hibernated_sizes, OLD.name, OLD.magnum_uuid)
    IS DISTINCT FROM (NEW.phase, NEW.live, NEW.observed_node_count, NEW.node_count, NEW.observed_master_count, NEW.flavor,
         NEW.master_flavor, NEW.labels, NEW.health_status, NEW.hibernated_sizes, NEW.name, NEW.magnum_uuid))
  EXECUTE FUNCTION kcloud_note_cluster();
CREATE TRIGGER fleet_group_changed AFTER INSERT OR UPDATE OR DELETE ON node_groups FOR EACH ROW
  EXECUTE FUNCTION kcloud_note_group();
CREATE TRIGGER fleet_placement_changed AFTER INSERT OR UPDATE OR DELETE ON placements FOR EACH ROW
  EXECUTE FUNCTION kcloud_note_placement();
"""


def _lane(expression: str) -> None:
    op.execute("ALTER TABLE jobs DROP COLUMN lane")  # its indexes go with it
    op.add_column("jobs", sa.Column("lane", sa.UUID(), sa.Computed(expression, persisted=True), nullable=False))
    op.create_index(
        "uq_jobs_one_acting", "jobs", ["lane"], unique=True, postgresql_where=sa.text("state IN ('running','converging')")
    )
    op.create_index("ix_jobs_lane", "jobs", ["lane", "seq"], unique=False)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "placements",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("request_id", sa.UUID(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("cluster_id", sa.UUID(), nullable=False),
        sa.Column("node_group", sa.Text(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("workload", sa.Text(), nullable=False),
        sa.Column("workload_type", sa.Text(), nullable=True),
        sa.Column("replica", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("cpu_milli", sa.Integer(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("accelerators", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("share_milli", sa.Integer(), server_default=sa.text("1000"), nullable=False),
        sa.Column("accelerator", sa.Text(), nullable=True),
        sa.Column("models", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("devices", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("isolation", sa.Text(), server_default=sa.text("'shared'"), nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("100"), nullable=False),
        sa.Column("movable", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("watts", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("cost_per_hour", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "cpu_milli >= 0 AND memory_mib >= 0 AND accelerators >= 0 AND node >= 0", name=op.f("ck_placements_sizes")
        ),
        sa.CheckConstraint(
            "share_milli BETWEEN 1 AND 1000 AND (share_milli = 1000 OR accelerators = 1)", name=op.f("ck_placements_share")
        ),
        sa.CheckConstraint("jsonb_array_length(devices) = accelerators", name=op.f("ck_placements_devices")),
        sa.CheckConstraint("(ended_at IS NULL) = (end_reason IS NULL)", name=op.f("ck_placements_ended")),
        sa.ForeignKeyConstraint(["cluster_id"], ["clusters.id"], name=op.f("fk_placements_cluster_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_placements")),
    )
    op.create_index(
        "ix_placements_cluster", "placements", ["cluster_id"], unique=False, postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_index("ix_placements_of_cluster", "placements", ["cluster_id", "created_at"], unique=False)
    op.create_index("ix_placements_project_seq", "placements", ["project_id", "seq"], unique=False)
    op.create_index(
        "ix_placements_expires", "placements", ["expires_at"], unique=False, postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_index("ix_placements_request", "placements", ["request_id"], unique=False)
    op.create_table(
        "fleet_changes",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("cluster_id", sa.UUID(), nullable=False),
        sa.Column("xid", sa.BigInteger(), server_default=sa.text("txid_current()"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_fleet_changes")),
    )
    op.create_index("ix_fleet_changes_scope", "fleet_changes", ["region", "project_id", "xid"], unique=False)
    op.create_index("ix_fleet_changes_at", "fleet_changes", ["at"], unique=False)
    op.create_table(
        "shape_mixes",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("mix", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "region", name=op.f("pk_shape_mixes")),
    )
    op.execute(_NOTE)
    op.drop_constraint(op.f("ck_jobs_target"), "jobs", type_="check")
    op.drop_constraint(op.f("ck_jobs_kind"), "jobs", type_="check")
    _lane("coalesce(cluster_id, stack_id, id)")
    op.create_check_constraint(op.f("ck_jobs_kind"), "jobs", _KINDS)
    op.create_check_constraint(op.f("ck_jobs_target"), "jobs", _TARGET)


def downgrade() -> None:
    """Take back. Jobs of kinds that the older code does not know are forgotten, and what was held is free."""
    op.execute("DELETE FROM jobs WHERE kind IN ('match','optimize')")
    op.drop_constraint(op.f("ck_jobs_target"), "jobs", type_="check")
    op.drop_constraint(op.f("ck_jobs_kind"), "jobs", type_="check")
    _lane("coalesce(cluster_id, stack_id)")
    op.create_check_constraint(op.f("ck_jobs_kind"), "jobs", f"kind IN ({_OLD_KINDS})")
    op.create_check_constraint(op.f("ck_jobs_target"), "jobs", _OLD_TARGET)
    op.execute("DROP TRIGGER fleet_group_changed ON node_groups")
    op.execute("DROP TRIGGER fleet_cluster_changed ON clusters")
    op.execute("DROP TRIGGER fleet_cluster_found ON clusters")
    op.drop_table("shape_mixes")
    op.drop_table("fleet_changes")
    op.drop_table("placements")
    op.execute("DROP FUNCTION kcloud_note_placement(); DROP FUNCTION kcloud_note_group(); DROP FUNCTION kcloud_note_cluster()")
