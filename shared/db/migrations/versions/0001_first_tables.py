"""First tables.

Revision: 0001
Follows: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "cluster_costs",
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cluster_id", sa.UUID(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("flavor", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("node_seconds", sa.Float(), nullable=False),
        sa.Column("energy_kwh", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("time", "cluster_id", "role", name=op.f("pk_cluster_costs")),
    )
    op.create_index("ix_cluster_costs_project_time", "cluster_costs", ["project_id", "time"], unique=False)
    op.create_table(
        "cluster_metrics",
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cluster_id", sa.UUID(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("cluster_name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("health_status", sa.Text(), nullable=True),
        sa.Column("node_count", sa.Integer(), nullable=True),
        sa.Column("master_count", sa.Integer(), nullable=True),
        sa.Column("power_consumption_watts", sa.Float(), nullable=True),
        sa.Column("cost_per_hour", sa.Float(), nullable=True),
        sa.Column("source", sa.Text(), server_default=sa.text("'modelled'"), nullable=False),
        sa.PrimaryKeyConstraint("time", "cluster_id", name=op.f("pk_cluster_metrics")),
    )
    op.create_index("ix_cluster_metrics_cluster_time", "cluster_metrics", ["cluster_id", "time"], unique=False)
    op.create_table(
        "clusters",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("magnum_name", sa.Text(), nullable=True),
        sa.Column("magnum_uuid", sa.Text(), nullable=True),
        sa.Column("managed", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("live", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("gone", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("template_id", sa.Text(), nullable=False),
        sa.Column("template_name", sa.Text(), nullable=True),
        sa.Column("node_count", sa.Integer(), nullable=False),
        sa.Column("master_count", sa.Integer(), nullable=False),
        sa.Column("keypair", sa.Text(), nullable=True),
        sa.Column("flavor", sa.Text(), nullable=True),
        sa.Column("master_flavor", sa.Text(), nullable=True),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reason_detail", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("health_status", sa.Text(), nullable=True),
        sa.Column("health_status_reason", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("observed_node_count", sa.Integer(), nullable=True),
        sa.Column("observed_master_count", sa.Integer(), nullable=True),
        sa.Column("api_address", sa.Text(), nullable=True),
        sa.Column("coe_version", sa.Text(), nullable=True),
        sa.Column("stack_id", sa.Text(), nullable=True),
        sa.Column("generation", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("observed_generation", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("magnum_created_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("magnum_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "phase IN ('Pending','Provisioning','Ready','Updating','Hibernated','Deleting','Failed')",
            name=op.f("ck_clusters_phase"),
        ),
        sa.CheckConstraint("node_count >= 0 AND master_count >= 0", name=op.f("ck_clusters_counts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clusters")),
    )
    op.create_index(
        "ix_clusters_project_seq", "clusters", ["project_id", "seq"], unique=False, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_index(
        "uq_clusters_live_name",
        "clusters",
        ["project_id", "region", "name"],
        unique=True,
        postgresql_where=sa.text("live AND managed"),
    )
    op.create_index(
        "uq_clusters_magnum_uuid",
        "clusters",
        ["region", "magnum_uuid"],
        unique=True,
        postgresql_where=sa.text("magnum_uuid IS NOT NULL"),
    )
    op.create_table(
        "credentials",
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("application_credential_id", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("registered_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("region", "project_id", name=op.f("pk_credentials")),
    )
    op.create_table(
        "durations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("template_id", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_durations")),
    )
    op.create_index("ix_durations_key", "durations", ["region", "kind", "template_id", "finished_at"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "scopes",
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("next_tick_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("lease_token", sa.UUID(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("watermark", sa.DateTime(timezone=True), nullable=True),
        sa.Column("interval_s", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("pacing", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("last_tick", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("next_inventory_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("inventory_token", sa.UUID(), nullable=True),
        sa.Column("inventory_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("inventory_dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("inventory_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_inventory", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("region", "project_id", name=op.f("pk_scopes")),
    )
    op.create_index("ix_scopes_next_tick_at", "scopes", ["next_tick_at"], unique=False)
    op.create_table(
        "series_state",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("done_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_series_state")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("cluster_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("params", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("resubmits", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.UUID(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("intent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("baseline", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("progress_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("look_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("condition", sa.Text(), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("result", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name=op.f("ck_jobs_lease")),
        sa.CheckConstraint(
            "(state IN ('succeeded','failed','cancelled')) = (finished_at IS NOT NULL)", name=op.f("ck_jobs_finished")
        ),
        sa.CheckConstraint("kind IN ('create','resize','delete')", name=op.f("ck_jobs_kind")),
        sa.CheckConstraint(
            "state IN ('queued','running','converging','succeeded','failed','cancelled')", name=op.f("ck_jobs_state")
        ),
        sa.ForeignKeyConstraint(["cluster_id"], ["clusters.id"], name=op.f("fk_jobs_cluster_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_cluster", "jobs", ["cluster_id", "seq"], unique=False)
    op.create_index(
        "ix_jobs_converging", "jobs", ["region", "project_id"], unique=False, postgresql_where=sa.text("state = 'converging'")
    )
    op.create_index("ix_jobs_due", "jobs", ["due_at"], unique=False, postgresql_where=sa.text("state = 'queued'"))
    op.create_index("ix_jobs_finished", "jobs", ["finished_at"], unique=False, postgresql_where=sa.text("finished_at IS NOT NULL"))
    op.create_index("ix_jobs_leases", "jobs", ["lease_expires_at"], unique=False, postgresql_where=sa.text("state = 'running'"))
    op.create_index("ix_jobs_project_seq", "jobs", ["project_id", "seq"], unique=False)
    op.create_index(
        "uq_jobs_one_acting", "jobs", ["cluster_id"], unique=True, postgresql_where=sa.text("state IN ('running','converging')")
    )
    op.create_table(
        "usage_intervals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("cluster_id", sa.UUID(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("flavor", sa.Text(), nullable=True),
        sa.Column("node_count", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('worker','master')", name=op.f("ck_usage_intervals_role")),
        sa.CheckConstraint("ended_at IS NULL OR ended_at >= started_at", name=op.f("ck_usage_intervals_order")),
        sa.ForeignKeyConstraint(["cluster_id"], ["clusters.id"], name=op.f("fk_usage_intervals_cluster_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_intervals")),
    )
    op.create_index("ix_usage_intervals_cluster", "usage_intervals", ["cluster_id", "started_at"], unique=False)
    op.create_index("ix_usage_intervals_project", "usage_intervals", ["project_id", "started_at"], unique=False)
    op.create_index(
        "uq_usage_intervals_open",
        "usage_intervals",
        ["cluster_id", "role"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "job_events",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_job_events")),
    )
    op.create_index("ix_job_events_job_id", "job_events", ["job_id", "seq"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_job_events_job_id", table_name="job_events")
    op.drop_table("job_events")
    op.drop_index("uq_usage_intervals_open", table_name="usage_intervals", postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_index("ix_usage_intervals_project", table_name="usage_intervals")
    op.drop_index("ix_usage_intervals_cluster", table_name="usage_intervals")
    op.drop_table("usage_intervals")
    op.drop_index("uq_jobs_one_acting", table_name="jobs", postgresql_where=sa.text("state IN ('running','converging')"))
    op.drop_index("ix_jobs_project_seq", table_name="jobs")
    op.drop_index("ix_jobs_leases", table_name="jobs", postgresql_where=sa.text("state = 'running'"))
    op.drop_index("ix_jobs_finished", table_name="jobs", postgresql_where=sa.text("finished_at IS NOT NULL"))
    op.drop_index("ix_jobs_due", table_name="jobs", postgresql_where=sa.text("state = 'queued'"))
    op.drop_index("ix_jobs_converging", table_name="jobs", postgresql_where=sa.text("state = 'converging'"))
    op.drop_index("ix_jobs_cluster", table_name="jobs")
    op.drop_table("jobs")
    op.drop_table("series_state")
    op.drop_index("ix_scopes_next_tick_at", table_name="scopes")
    op.drop_table("scopes")
    op.drop_index("ix_idempotency_keys_created_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_durations_key", table_name="durations")
    op.drop_table("durations")
    op.drop_table("credentials")
    op.drop_index("uq_clusters_magnum_uuid", table_name="clusters", postgresql_where=sa.text("magnum_uuid IS NOT NULL"))
    op.drop_index("uq_clusters_live_name", table_name="clusters", postgresql_where=sa.text("live AND managed"))
    op.drop_index("ix_clusters_project_seq", table_name="clusters", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("clusters")
    op.drop_index("ix_cluster_metrics_cluster_time", table_name="cluster_metrics")
    op.drop_table("cluster_metrics")
    op.drop_index("ix_cluster_costs_project_time", table_name="cluster_costs")
    op.drop_table("cluster_costs")
