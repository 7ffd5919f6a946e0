"""Stacks, node groups, grants, cluster types, address ranges and an audit trail; jobs of stacks, and jobs that come after others.

Old code is still running while this is applied: expand first, contract in a later release.

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KINDS = (
    "kind IN ('create','resize','delete','add_node_group','remove_node_group','upgrade','hibernate','wake',"
    "'create_stack','update_stack','delete_stack')"
)
TARGET = "num_nonnulls(cluster_id, stack_id) = 1 AND (right(kind, 6) = '_stack') = (stack_id IS NOT NULL)"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "address_ranges",
        sa.Column("cidr", postgresql.CIDR(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("stack_id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        postgresql.ExcludeConstraint(
            (sa.column("cidr"), "&&"), using="gist", ops={"cidr": "inet_ops"}, name="ex_address_ranges_overlap"
        ),
        sa.PrimaryKeyConstraint("cidr", name=op.f("pk_address_ranges")),
    )
    op.create_index("ix_address_ranges_stack", "address_ranges", ["stack_id"], unique=False)
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("cluster_id", sa.UUID(), nullable=True),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_index("ix_audit_events_cluster", "audit_events", ["cluster_id", "at"], unique=False)
    op.create_index("ix_audit_events_project", "audit_events", ["project_id", "at"], unique=False)
    op.create_table(
        "cluster_types",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "name", name=op.f("pk_cluster_types")),
    )
    op.create_table(
        "stacks",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("heat_name", sa.Text(), nullable=False),
        sa.Column("heat_id", sa.Text(), nullable=True),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("cluster_id", sa.UUID(), nullable=True),
        sa.Column("members", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("live", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reason_detail", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("outputs", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("generation", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("observed_generation", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "phase IN ('Pending','Provisioning','Ready','Updating','Deleting','Failed')", name=op.f("ck_stacks_phase")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stacks")),
    )
    op.create_index("ix_stacks_cluster", "stacks", ["cluster_id"], unique=False, postgresql_where=sa.text("cluster_id IS NOT NULL"))
    op.create_index(
        "ix_stacks_project_seq", "stacks", ["project_id", "seq"], unique=False, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_index(
        "uq_stacks_live_name", "stacks", ["project_id", "region", "name"], unique=True, postgresql_where=sa.text("live")
    )
    op.create_table(
        "cluster_grants",
        sa.Column("cluster_id", sa.UUID(), nullable=False),
        sa.Column("subject_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("granted_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("role IN ('viewer','operator','owner')", name=op.f("ck_cluster_grants_role")),
        sa.CheckConstraint("subject_type IN ('user','group')", name=op.f("ck_cluster_grants_subject_type")),
        sa.ForeignKeyConstraint(["cluster_id"], ["clusters.id"], name=op.f("fk_cluster_grants_cluster_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cluster_id", "subject_type", "subject_id", name=op.f("pk_cluster_grants")),
    )
    op.create_table(
        "node_groups",
        sa.Column("cluster_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("magnum_uuid", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), server_default=sa.text("'worker'"), nullable=False),
        sa.Column("flavor", sa.Text(), nullable=True),
        sa.Column("image", sa.Text(), nullable=True),
        sa.Column("node_count", sa.Integer(), nullable=False),
        sa.Column("least", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("most", sa.Integer(), nullable=True),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "node_count >= 0 AND least >= 0 AND (most IS NULL OR most >= least)", name=op.f("ck_node_groups_counts")
        ),
        sa.ForeignKeyConstraint(["cluster_id"], ["clusters.id"], name=op.f("fk_node_groups_cluster_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cluster_id", "name", name=op.f("pk_node_groups")),
    )
    op.add_column(
        "clusters", sa.Column("hibernated_sizes", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True)
    )
    op.add_column("clusters", sa.Column("network_stack_id", sa.UUID(), nullable=True))
    op.add_column("jobs", sa.Column("stack_id", sa.UUID(), nullable=True))
    op.add_column(
        "jobs", sa.Column("lane", sa.UUID(), sa.Computed("coalesce(cluster_id, stack_id)", persisted=True), nullable=False)
    )
    op.add_column("jobs", sa.Column("after_id", sa.UUID(), nullable=True))
    op.alter_column("jobs", "cluster_id", existing_type=sa.UUID(), nullable=True)
    op.drop_index(op.f("ix_jobs_cluster"), table_name="jobs")
    op.drop_index(
        op.f("uq_jobs_one_acting"), table_name="jobs", postgresql_where="(state = ANY (ARRAY['running'::text, 'converging'::text]))"
    )
    op.create_index(
        "uq_jobs_one_acting", "jobs", ["lane"], unique=True, postgresql_where=sa.text("state IN ('running','converging')")
    )
    op.create_index("ix_jobs_after", "jobs", ["after_id"], unique=False, postgresql_where=sa.text("after_id IS NOT NULL"))
    op.create_index("ix_jobs_lane", "jobs", ["lane", "seq"], unique=False)
    op.drop_constraint(op.f("ck_jobs_kind"), "jobs", type_="check")
    op.create_check_constraint(op.f("ck_jobs_kind"), "jobs", KINDS)
    op.create_check_constraint(op.f("ck_jobs_target"), "jobs", TARGET)
    op.create_foreign_key(op.f("fk_jobs_stack_id"), "jobs", "stacks", ["stack_id"], ["id"], ondelete="CASCADE")


def downgrade() -> None:
    """Take back. Jobs of kinds that the older code does not know are forgotten."""
    op.execute("DELETE FROM jobs WHERE kind NOT IN ('create','resize','delete')")
    op.drop_constraint(op.f("ck_jobs_target"), "jobs", type_="check")
    op.drop_constraint(op.f("ck_jobs_kind"), "jobs", type_="check")
    op.create_check_constraint(op.f("ck_jobs_kind"), "jobs", "kind IN ('create','resize','delete')")
    op.drop_constraint(op.f("fk_jobs_stack_id"), "jobs", type_="foreignkey")
    op.drop_index("ix_jobs_lane", table_name="jobs")
    op.drop_index("ix_jobs_after", table_name="jobs", postgresql_where=sa.text("after_id IS NOT NULL"))
    op.drop_index("uq_jobs_one_acting", table_name="jobs", postgresql_where=sa.text("state IN ('running','converging')"))
    op.create_index(
        op.f("uq_jobs_one_acting"),
        "jobs",
        ["cluster_id"],
        unique=True,
        postgresql_where="(state = ANY (ARRAY['running'::text, 'converging'::text]))",
    )
    op.create_index(op.f("ix_jobs_cluster"), "jobs", ["cluster_id", "seq"], unique=False)
    op.alter_column("jobs", "cluster_id", existing_type=sa.UUID(), nullable=False)
    op.drop_column("jobs", "after_id")
    op.drop_column("jobs", "lane")
    op.drop_column("jobs", "stack_id")
    op.drop_column("clusters", "network_stack_id")
    op.drop_column("clusters", "hibernated_sizes")
    op.drop_table("node_groups")
    op.drop_table("cluster_grants")
    op.drop_index("uq_stacks_live_name", table_name="stacks", postgresql_where=sa.text("live"))
    op.drop_index("ix_stacks_project_seq", table_name="stacks", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_stacks_cluster", table_name="stacks", postgresql_where=sa.text("cluster_id IS NOT NULL"))
    op.drop_table("stacks")
    op.drop_table("cluster_types")
    op.drop_index("ix_audit_events_project", table_name="audit_events")
    op.drop_index("ix_audit_events_cluster", table_name="audit_events")
    op.drop_table("audit_events")
    op.drop_index("ix_address_ranges_stack", table_name="address_ranges")
    op.drop_table("address_ranges")
