"""The tables. What must always be true is also said here, in constraints, so that no code path can break it."""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import CIDR, JSONB, UUID, ExcludeConstraint

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _at(name: str, **kwargs: Any) -> Column[Any]:
    return Column(name, DateTime(timezone=True), **kwargs)


def _json(name: str) -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text("'{}'::jsonb"))


def _use() -> list[Column[Any]]:
    """What meters say of a cluster's use: percent on average and of the busiest node or accelerator, and pods that are not the system's."""
    figures = ("cpu_usage", "cpu_usage_peak", "gpu_usage", "gpu_usage_peak", "gpu_memory_used_gb", "gpu_temperature_celsius")
    return [*(Column(name, Float) for name in figures), Column("running_pods", Integer)]


clusters: Final = Table(
    "clusters",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("seq", BigInteger, Identity(), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("magnum_name", Text),
    Column("magnum_uuid", Text),
    Column("managed", Boolean, nullable=False, server_default=text("true")),
    Column("live", Boolean, nullable=False, server_default=text("true")),
    Column("gone", Boolean, nullable=False, server_default=text("false")),
    Column("template_id", Text, nullable=False),
    Column("template_name", Text),
    Column("node_count", Integer, nullable=False),
    Column("master_count", Integer, nullable=False),
    Column("keypair", Text),
    Column("flavor", Text),
    Column("master_flavor", Text),
    _json("labels"),
    _json("options"),
    Column("phase", Text, nullable=False),
    Column("reason", Text),
    Column("reason_detail", Text),
    Column("status", Text),
    Column("status_reason", Text),
    Column("health_status", Text),
    Column("health_status_reason", JSONB(none_as_null=True)),
    Column("observed_node_count", Integer),
    Column("observed_master_count", Integer),
    Column("api_address", Text),
    Column("coe_version", Text),
    Column("stack_id", Text),
    Column("generation", Integer, nullable=False, server_default=text("1")),
    Column("observed_generation", Integer, nullable=False, server_default=text("0")),
    _at("magnum_created_at"),
    _at("magnum_updated_at"),
    _at("first_seen_at"),
    _at("observed_at"),
    _at("created_at", nullable=False, server_default=func.now()),
    _at("updated_at", nullable=False, server_default=func.now()),
    _at("deleted_at"),
    Column("created_by", Text),
    Column("hibernated_sizes", JSONB(none_as_null=True)),
    Column("network_stack_id", UUID(as_uuid=True)),
    CheckConstraint("phase IN ('Pending','Provisioning','Ready','Updating','Hibernated','Deleting','Failed')", name="phase"),
    CheckConstraint("node_count >= 0 AND master_count >= 0", name="counts"),
    # A live name is held once per project and region; clusters made by others may share names, as Magnum lets them.
    Index(
        "uq_clusters_live_name",
        "project_id",
        "region",
        "name",
        unique=True,
        postgresql_where=text("live AND managed"),
    ),
    # One row per cluster of Magnum: a lost race to adopt it shows here.
    Index(
        "uq_clusters_magnum_uuid",
        "region",
        "magnum_uuid",
        unique=True,
        postgresql_where=text("magnum_uuid IS NOT NULL"),
    ),
    Index("ix_clusters_project_seq", "project_id", "seq", postgresql_where=text("deleted_at IS NULL")),
)

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("seq", BigInteger, Identity(), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("cluster_id", UUID(as_uuid=True), ForeignKey("clusters.id", ondelete="CASCADE")),
    Column("stack_id", UUID(as_uuid=True), ForeignKey("stacks.id", ondelete="CASCADE")),
    # What a job waits its turn at: jobs of one lane come one after the other.
    Column("lane", UUID(as_uuid=True), Computed("coalesce(cluster_id, stack_id, id)", persisted=True), nullable=False),
    # A job of another lane that comes first. No foreign key: retention may forget it.
    Column("after_id", UUID(as_uuid=True)),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    _json("params"),
    Column("step", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("resubmits", Integer, nullable=False, server_default=text("0")),
    Column("crashes", Integer, nullable=False, server_default=text("0")),
    _at("due_at", nullable=False, server_default=func.now()),
    _at("dispatched_at"),
    Column("lease_owner", Text),
    Column("lease_token", UUID(as_uuid=True)),
    _at("lease_expires_at"),
    _at("intent_at"),
    _at("submitted_at"),
    _json("baseline"),
    _at("progress_at"),
    _at("look_at"),
    Column("condition", Text),
    _at("deadline_at"),
    _at("cancel_requested_at"),
    Column("cancel_reason", Text),
    Column("result", JSONB(none_as_null=True)),
    Column("error", JSONB(none_as_null=True)),
    Column("requested_by", Text),
    Column("request_id", Text),
    _at("created_at", nullable=False, server_default=func.now()),
    _at("started_at"),
    _at("finished_at"),
    CheckConstraint(
        "kind IN ('create','resize','delete','add_node_group','remove_node_group','upgrade','hibernate','wake',"
        "'create_stack','update_stack','delete_stack','match','optimize')",
        name="kind",
    ),
    # Matches and plans look at many clusters and belong to none; each is a lane of its own.
    CheckConstraint(
        "CASE WHEN kind IN ('match','optimize') THEN num_nonnulls(cluster_id, stack_id) = 0"
        " ELSE num_nonnulls(cluster_id, stack_id) = 1 AND (right(kind, 6) = '_stack') = (stack_id IS NOT NULL) END",
        name="target",
    ),
    CheckConstraint("state IN ('queued','running','converging','succeeded','failed','cancelled')", name="state"),
    CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name="lease"),
    CheckConstraint("(state IN ('succeeded','failed','cancelled')) = (finished_at IS NOT NULL)", name="finished"),
    # One job at a time acts on a cluster or a stack.
    Index(
        "uq_jobs_one_acting",
        "lane",
        unique=True,
        postgresql_where=text("state IN ('running','converging')"),
    ),
    Index("ix_jobs_due", "due_at", postgresql_where=text("state = 'queued'")),
    Index("ix_jobs_leases", "lease_expires_at", postgresql_where=text("state = 'running'")),
    Index("ix_jobs_converging", "region", "project_id", postgresql_where=text("state = 'converging'")),
    Index("ix_jobs_lane", "lane", "seq"),
    Index("ix_jobs_after", "after_id", postgresql_where=text("after_id IS NOT NULL")),
    Index("ix_jobs_project_seq", "project_id", "seq"),
    Index("ix_jobs_finished", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
)

stacks: Final = Table(
    "stacks",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("seq", BigInteger, Identity(), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("heat_name", Text, nullable=False),
    Column("heat_id", Text),
    Column("template", Text, nullable=False),
    _json("parameters"),
    Column("cluster_id", UUID(as_uuid=True)),  # whose isolated network it is; such a stack goes with its cluster
    _json("members"),  # clusters that it connects: id -> name
    Column("live", Boolean, nullable=False, server_default=text("true")),
    Column("phase", Text, nullable=False),
    Column("reason", Text),
    Column("reason_detail", Text),
    Column("status", Text),
    Column("status_reason", Text),
    _json("outputs"),
    Column("generation", Integer, nullable=False, server_default=text("1")),
    Column("observed_generation", Integer, nullable=False, server_default=text("0")),
    _at("first_seen_at"),
    _at("observed_at"),
    _at("created_at", nullable=False, server_default=func.now()),
    _at("updated_at", nullable=False, server_default=func.now()),
    _at("deleted_at"),
    Column("created_by", Text),
    CheckConstraint("phase IN ('Pending','Provisioning','Ready','Updating','Deleting','Failed')", name="phase"),
    Index("uq_stacks_live_name", "project_id", "region", "name", unique=True, postgresql_where=text("live")),
    Index("ix_stacks_project_seq", "project_id", "seq", postgresql_where=text("deleted_at IS NULL")),
    Index("ix_stacks_cluster", "cluster_id", postgresql_where=text("cluster_id IS NOT NULL")),
)

address_ranges: Final = Table(
    "address_ranges",
    metadata,
    Column("cidr", CIDR, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("stack_id", UUID(as_uuid=True), nullable=False),
    _at("created_at", nullable=False, server_default=func.now()),
    # Networks that may one day be connected must not share an address: whose they are makes no difference.
    ExcludeConstraint(("cidr", "&&"), using="gist", ops={"cidr": "inet_ops"}, name="ex_address_ranges_overlap"),
    Index("ix_address_ranges_stack", "stack_id"),
)

node_groups: Final = Table(
    "node_groups",
    metadata,
    Column("cluster_id", UUID(as_uuid=True), ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("magnum_uuid", Text),
    Column("role", Text, nullable=False, server_default=text("'worker'")),
    Column("flavor", Text),
    Column("image", Text),
    Column("node_count", Integer, nullable=False),
    Column("least", Integer, nullable=False, server_default=text("0")),
    Column("most", Integer),
    _json("labels"),
    _at("created_at", nullable=False, server_default=func.now()),
    _at("updated_at", nullable=False, server_default=func.now()),
    CheckConstraint("node_count >= 0 AND least >= 0 AND (most IS NULL OR most >= least)", name="counts"),
)

placements: Final = Table(
    "placements",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("seq", BigInteger, Identity(), nullable=False),
    Column("request_id", UUID(as_uuid=True), nullable=False),  # what was asked for together
    Column("project_id", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("cluster_id", UUID(as_uuid=True), ForeignKey("clusters.id", ondelete="CASCADE"), nullable=False),
    Column("node_group", Text, nullable=False),
    Column("node", Integer, nullable=False),  # counted from 0 in its group
    Column("workload", Text, nullable=False),
    Column("workload_type", Text),
    Column("replica", Integer, nullable=False, server_default=text("0")),
    Column("cpu_milli", Integer, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("accelerators", Integer, nullable=False, server_default=text("0")),
    Column("share_milli", Integer, nullable=False, server_default=text("1000")),  # of each of them
    Column("accelerator", Text),  # the model that it lies on
    Column("models", JSONB(none_as_null=True)),  # those that it may lie on; NULL: any
    Column("devices", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    _json("labels"),
    Column("isolation", Text, nullable=False, server_default=text("'shared'")),
    Column("priority", Integer, nullable=False, server_default=text("100")),
    Column("movable", Boolean, nullable=False, server_default=text("false")),
    Column("watts", Float, nullable=False, server_default=text("0")),
    Column("cost_per_hour", Float, nullable=False, server_default=text("0")),
    Column("job_id", UUID(as_uuid=True)),
    Column("created_by", Text),
    _at("created_at", nullable=False, server_default=func.now()),
    _at("expires_at"),  # NULL: until it is ended
    _at("ended_at"),
    Column("end_reason", Text),
    CheckConstraint("cpu_milli >= 0 AND memory_mib >= 0 AND accelerators >= 0 AND node >= 0", name="sizes"),
    CheckConstraint("share_milli BETWEEN 1 AND 1000 AND (share_milli = 1000 OR accelerators = 1)", name="share"),
    CheckConstraint("jsonb_array_length(devices) = accelerators", name="devices"),
    CheckConstraint("(ended_at IS NULL) = (end_reason IS NULL)", name="ended"),
    Index("ix_placements_cluster", "cluster_id", postgresql_where=text("ended_at IS NULL")),
    Index("ix_placements_of_cluster", "cluster_id", "created_at"),
    Index("ix_placements_project_seq", "project_id", "seq"),
    Index("ix_placements_expires", "expires_at", postgresql_where=text("ended_at IS NULL")),
    Index("ix_placements_request", "request_id"),
)

# Which clusters' nodes or placements have changed, written by triggers. A reader that remembers the oldest transaction that was
# still open when it last looked (txid_snapshot_xmin) misses nothing by asking for rows from that one on.
fleet_changes: Final = Table(
    "fleet_changes",
    metadata,
    Column("seq", BigInteger, Identity(), primary_key=True),
    Column("region", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("cluster_id", UUID(as_uuid=True), nullable=False),
    Column("xid", BigInteger, nullable=False, server_default=text("txid_current()")),
    _at("at", nullable=False, server_default=func.now()),
    Index("ix_fleet_changes_scope", "region", "project_id", "xid"),
    Index("ix_fleet_changes_at", "at"),
)

scale_policies: Final = Table(
    "scale_policies",
    metadata,
    Column("cluster_id", UUID(as_uuid=True), ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True),
    _json("policy"),
    Column("enabled", Boolean, nullable=False, server_default=text("false")),
    Column("decision", JSONB(none_as_null=True)),
    _at("decided_at"),
    Column("updated_by", Text),
    _at("updated_at", nullable=False, server_default=func.now()),
    Index("ix_scale_policies_due", "decided_at", postgresql_where=text("enabled")),
)

shape_mixes: Final = Table(
    "shape_mixes",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("region", Text, primary_key=True),
    _json("mix"),
    _at("updated_at", nullable=False, server_default=func.now()),
)

cluster_grants: Final = Table(
    "cluster_grants",
    metadata,
    Column("cluster_id", UUID(as_uuid=True), ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True),
    Column("subject_type", Text, primary_key=True),
    Column("subject_id", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("granted_by", Text, nullable=False),
    _at("created_at", nullable=False, server_default=func.now()),
    CheckConstraint("subject_type IN ('user','group')", name="subject_type"),
    CheckConstraint("role IN ('viewer','operator','owner')", name="role"),
)

cluster_types: Final = Table(
    "cluster_types",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    _json("content"),
    Column("created_by", Text),
    _at("created_at", nullable=False, server_default=func.now()),
    _at("updated_at", nullable=False, server_default=func.now()),
)

audit_events: Final = Table(
    "audit_events",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _at("at", nullable=False, server_default=func.now()),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("user_name", Text),
    Column("request_id", Text),
    Column("action", Text, nullable=False),
    Column("cluster_id", UUID(as_uuid=True)),
    _json("detail"),
    Index("ix_audit_events_cluster", "cluster_id", "at"),
    Index("ix_audit_events_project", "project_id", "at"),
)

job_events: Final = Table(
    "job_events",
    metadata,
    Column("seq", BigInteger, Identity(), primary_key=True),
    Column("job_id", UUID(as_uuid=True), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    _at("at", nullable=False, server_default=func.now()),
    Column("step", Text, nullable=False),
    Column("state", Text, nullable=False),
    _json("detail"),
    Index("ix_job_events_job_id", "job_id", "seq"),
)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    _at("created_at", nullable=False, server_default=func.now()),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

scopes: Final = Table(
    "scopes",
    metadata,
    Column("region", Text, primary_key=True),
    Column("project_id", Text, primary_key=True),
    _at("next_tick_at", nullable=False, server_default=func.now()),
    Column("lease_token", UUID(as_uuid=True)),
    _at("lease_expires_at"),
    _at("dispatched_at"),
    _at("watermark"),  # Magnum's own clock: the newest updated_at processed
    Column("interval_s", Float, nullable=False, server_default=text("0")),
    _json("pacing"),
    _json("last_tick"),
    _at("next_inventory_at", nullable=False, server_default=func.now()),
    Column("inventory_token", UUID(as_uuid=True)),
    _at("inventory_expires_at"),
    _at("inventory_dispatched_at"),
    _at("inventory_at"),
    _json("last_inventory"),
    _at("created_at", nullable=False, server_default=func.now()),
    Index("ix_scopes_next_tick_at", "next_tick_at"),
)

credentials: Final = Table(
    "credentials",
    metadata,
    Column("region", Text, primary_key=True),
    Column("project_id", Text, primary_key=True),
    Column("application_credential_id", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),  # Fernet token; never in clear
    Column("registered_by", Text, nullable=False),
    _at("created_at", nullable=False, server_default=func.now()),
)

durations: Final = Table(
    "durations",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("region", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("template_id", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    _at("finished_at", nullable=False),
    Index("ix_durations_key", "region", "kind", "template_id", "finished_at"),
)

usage_intervals: Final = Table(
    "usage_intervals",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("cluster_id", UUID(as_uuid=True), ForeignKey("clusters.id", ondelete="CASCADE"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("node_group", Text, nullable=False),
    Column("flavor", Text),
    Column("node_count", Integer, nullable=False),
    _at("started_at", nullable=False),
    _at("ended_at"),
    # False: a guess from the cluster's total, until its groups are read by themselves.
    Column("exact", Boolean, nullable=False, server_default=text("true")),
    CheckConstraint("ended_at IS NULL OR ended_at >= started_at", name="order"),
    CheckConstraint("role IN ('worker','master')", name="role"),
    # No second open interval: usage can't be counted twice.
    Index("uq_usage_intervals_open", "cluster_id", "node_group", unique=True, postgresql_where=text("ended_at IS NULL")),
    # Nor two that overlap. PostgreSQL's own GiST operators know ranges only; the two types are made in migration 0008.
    ExcludeConstraint(
        (text("kcloud_uuid_range(cluster_id, cluster_id, '[]')"), "&&"),
        (text("kcloud_text_range(node_group, node_group, '[]')"), "&&"),
        (text("tstzrange(started_at, ended_at)"), "&&"),
        using="gist",
        name="ex_usage_intervals_overlap",
    ),
    Index("ix_usage_intervals_doubted", "cluster_id", postgresql_where=text("ended_at IS NULL AND NOT exact")),
    Index("ix_usage_intervals_cluster", "cluster_id", "started_at"),
    Index("ix_usage_intervals_project", "project_id", "started_at"),
)

rate_cards: Final = Table(
    "rate_cards",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("seq", BigInteger, Identity(), nullable=False),
    Column("project_id", Text),  # NULL: of every project
    Column("name", Text, nullable=False),
    Column("currency", Text, nullable=False),
    _at("valid_from", nullable=False),
    _at("valid_to"),
    _json("document"),
    Column("created_by", Text, nullable=False),
    _at("created_at", nullable=False, server_default=func.now()),
    CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name="order"),
    CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
    Index("ix_rate_cards_project", "project_id", "valid_from"),
)

cluster_metrics: Final = Table(
    "cluster_metrics",
    metadata,
    _at("time", primary_key=True),
    Column("cluster_id", UUID(as_uuid=True), primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("cluster_name", Text, nullable=False),
    Column("status", Text),
    Column("health_status", Text),
    Column("node_count", Integer),
    Column("master_count", Integer),
    Column("power_consumption_watts", Float),
    Column("cost_per_hour", Float),
    Column("source", Text, nullable=False, server_default=text("'modelled'")),
    *_use(),
    Column("seconds", Float),  # for which it stands; with the watts, energy. NULL where it is not known
    Index("ix_cluster_metrics_cluster_time", "cluster_id", "time"),
)

# One row per cluster, written anew at each collection; samples take from it what is fresh.
telemetry_latest: Final = Table(
    "telemetry_latest",
    metadata,
    Column("cluster_id", UUID(as_uuid=True), ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True),
    _at("at", nullable=False),
    Column("watts", Float),
    Column("measured_watts", Float),  # the part of them that a sensor read
    *_use(),
    Column("nodes_read", Integer, nullable=False, server_default=text("0")),
    Column("accelerators_read", Integer, nullable=False, server_default=text("0")),
)

telemetry_sources: Final = Table(
    "telemetry_sources",
    metadata,
    Column("region", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    _at("looked_at", nullable=False),
    _at("answered_at"),  # the last time that it answered as a whole
    Column("samples", Integer, nullable=False, server_default=text("0")),
    Column("failures", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("findings", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
)

# Of clusters that have meters: sampled time of an hour, the part of it with a measurement, and the energy of all of it.
cluster_energy: Final = Table(
    "cluster_energy",
    metadata,
    Column("cluster_id", UUID(as_uuid=True), primary_key=True),
    _at("hour", primary_key=True),
    Column("seconds", Float, nullable=False),
    Column("measured_seconds", Float, nullable=False),
    Column("joules", Float, nullable=False),
    CheckConstraint("seconds > 0 AND measured_seconds >= 0 AND joules >= 0", name="amounts"),
    Index("ix_cluster_energy_hour", "hour"),
)

cluster_costs: Final = Table(
    "cluster_costs",
    metadata,
    _at("time", primary_key=True),
    Column("cluster_id", UUID(as_uuid=True), primary_key=True),
    Column("role", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("flavor", Text),
    Column("seconds", Float, nullable=False),  # length of the span that `time` begins
    Column("node_seconds", Float, nullable=False),
    Column("energy_kwh", Float, nullable=False),
    Index("ix_cluster_costs_project_time", "project_id", "time"),
)

series_state: Final = Table(
    "series_state",
    metadata,
    Column("name", Text, primary_key=True),
    _at("done_until", nullable=False),  # a series is complete up to here; the next sample continues from here
)

# A verdict that says the same as the one before is not written again: `at` moves on and `looks` counts.
idle_verdicts: Final = Table(
    "idle_verdicts",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("cluster_id", UUID(as_uuid=True), ForeignKey("clusters.id", ondelete="CASCADE"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("key", Text, nullable=False),  # what every source says, without its values
    Column("idle", Boolean, nullable=False),
    _json("evidence"),
    _at("first_at", nullable=False),
    _at("at", nullable=False),
    Column("looks", Integer, nullable=False, server_default=text("1")),
    Column("latest", Boolean, nullable=False, server_default=text("true")),
    Index("uq_idle_verdicts_latest", "cluster_id", unique=True, postgresql_where=text("latest")),
    Index("ix_idle_verdicts_cluster", "cluster_id", "id"),
    Index("ix_idle_verdicts_at", "at"),
)

cleanup_policies: Final = Table(
    "cleanup_policies",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    _json("content"),
    Column("updated_by", Text, nullable=False),
    _at("updated_at", nullable=False, server_default=func.now()),
    CheckConstraint("kind IN ('policy','floor')", name="kind"),
)

cleanup_states: Final = Table(
    "cleanup_states",
    metadata,
    Column("cluster_id", UUID(as_uuid=True), ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("stage", Text, nullable=False),
    _at("since", nullable=False),
    _at("idle_since"),
    _at("looked_at"),
    Column("notice_id", UUID(as_uuid=True)),
    Column("action", Text),
    Column("job_id", UUID(as_uuid=True)),  # no foreign key: retention may forget it
    CheckConstraint("stage IN ('active','candidate','notified','marked','confirmed','deleting')", name="stage"),
    CheckConstraint("action IN ('hibernate','delete')", name="action"),
    CheckConstraint("(stage = 'deleting') = (job_id IS NOT NULL)", name="job"),
    CheckConstraint("(stage = 'active') = (idle_since IS NULL)", name="idle"),
    Index("ix_cleanup_states_project", "project_id"),
)

cleanup_steps: Final = Table(
    "cleanup_steps",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("cluster_id", UUID(as_uuid=True), ForeignKey("clusters.id", ondelete="CASCADE"), nullable=False),
    Column("project_id", Text, nullable=False),
    _at("at", nullable=False),
    Column("from_stage", Text, nullable=False),
    Column("to_stage", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("made_by", Text, nullable=False),
    _json("evidence"),
    Index("ix_cleanup_steps_cluster", "cluster_id", "id"),
    Index("ix_cleanup_steps_at", "at"),
)

cluster_holds: Final = Table(
    "cluster_holds",
    metadata,
    Column("cluster_id", UUID(as_uuid=True), ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True),
    _at("until_at", nullable=False),
    Column("why", Text, nullable=False),
    Column("held_by", Text, nullable=False),
    _at("created_at", nullable=False, server_default=func.now()),
)

webhooks: Final = Table(
    "webhooks",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("seq", BigInteger, Identity(), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", JSONB, nullable=False, server_default=text("'[]'::jsonb")),  # empty: all
    Column("description", Text),
    Column("secret", LargeBinary, nullable=False),  # Fernet token; never in clear
    Column("created_by", Text, nullable=False),
    _at("created_at", nullable=False, server_default=func.now()),
    Index("uq_webhooks_url", "project_id", "url", unique=True),
)

webhook_deliveries: Final = Table(
    "webhook_deliveries",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True, server_default=text("gen_random_uuid()")),
    Column("seq", BigInteger, Identity(), nullable=False),
    Column("webhook_id", UUID(as_uuid=True), ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("event_id", UUID(as_uuid=True), nullable=False),  # the same for all receivers of an event
    Column("event", Text, nullable=False),
    Column("body", Text, nullable=False),  # sent as it is, so that every try has the same bytes
    Column("state", Text, nullable=False, server_default=text("'pending'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _at("due_at", nullable=False, server_default=func.now()),
    Column("last_status", Integer),
    Column("last_error", Text),
    _at("created_at", nullable=False, server_default=func.now()),
    _at("finished_at"),
    CheckConstraint("state IN ('pending','delivered','failed')", name="state"),
    CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name="finished"),
    Index("ix_webhook_deliveries_due", "due_at", postgresql_where=text("state = 'pending'")),
    Index("ix_webhook_deliveries_webhook", "webhook_id", "seq"),
    Index("ix_webhook_deliveries_event", "event_id"),
    Index("ix_webhook_deliveries_finished", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
)

# What a project may spend or draw. The state is that of the last look; `passed` are the thresholds told of in the period since span_start.
budgets: Final = Table(
    "budgets",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("seq", BigInteger, Identity(), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("currency", Text),
    Column("period", Text),
    Column("amount", Numeric, nullable=False),
    Column("thresholds", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("binding", Boolean, nullable=False, server_default=text("false")),
    Column("created_by", Text, nullable=False),
    _at("created_at", nullable=False, server_default=func.now()),
    _at("span_start"),
    Column("used", Numeric),
    Column("forecast", Numeric),
    _at("evaluated_at"),
    Column("passed", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    _at("refusing_since"),
    CheckConstraint("kind IN ('money','energy','power')", name="kind"),
    CheckConstraint("(kind = 'money') = (currency IS NOT NULL)", name="currency"),
    CheckConstraint("(kind = 'power') = (period IS NULL)", name="period"),
    CheckConstraint("amount > 0", name="amount"),
    Index("uq_budgets_name", "project_id", "name", unique=True),
)

# Changes that took nodes away: what ran of each group when they were promised, and what they were to leave.
savings: Final = Table(
    "savings",
    metadata,
    Column("job_id", UUID(as_uuid=True), primary_key=True),  # no foreign key: retention forgets jobs sooner
    Column("seq", BigInteger, Identity(), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("cluster_id", UUID(as_uuid=True), nullable=False),
    Column("cluster_name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("requested_by", Text),
    _at("at", nullable=False, server_default=func.now()),
    _json("groups"),
    CheckConstraint("kind IN ('scale_in','hibernate','delete','remove_node_group')", name="kind"),
    CheckConstraint("cause IN ('user','policy','cleanup','plan','budget')", name="cause"),
    Index("ix_savings_project", "project_id", "at"),
)

# A plan's id is that of the job that made it.
plans: Final = Table(
    "plans",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("seq", BigInteger, Identity(), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'proposed'")),
    Column("reason", Text),
    Column("detail", Text),
    _json("summary"),
    _json("basis"),  # the clusters and placements that its steps rest on, as they were
    Column("requested_by", Text),
    Column("approved_by", Text),
    _at("approved_at"),
    Column("applied_by", Text),
    _at("began_at"),
    _at("looked_at"),
    _at("finished_at"),
    _at("valid_until", nullable=False),
    _at("created_at", nullable=False, server_default=func.now()),
    CheckConstraint("state IN ('proposed','approved','applying','applied','stale','failed','cancelled','expired')", name="state"),
    CheckConstraint("(state IN ('proposed','approved','applying')) = (finished_at IS NULL)", name="finished"),
    CheckConstraint("(state IN ('stale','failed','expired')) <= (reason IS NOT NULL)", name="reason"),
    # Two plans at once would each rest on what the other changes.
    Index("uq_plans_one_applying", "project_id", "region", unique=True, postgresql_where=text("state = 'applying'")),
    Index("ix_plans_project_seq", "project_id", "seq"),
    Index("ix_plans_open", "valid_until", postgresql_where=text("finished_at IS NULL")),
    Index("ix_plans_finished", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
)

plan_steps: Final = Table(
    "plan_steps",
    metadata,
    Column("plan_id", UUID(as_uuid=True), ForeignKey("plans.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("act", Text, nullable=False),
    Column("ref", Text, nullable=False),  # the cluster's id, or new:<type>
    Column("name", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("node_group", Text),
    Column("nodes_before", Integer, nullable=False, server_default=text("0")),
    Column("nodes", Integer, nullable=False, server_default=text("0")),
    Column("keeps", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("placement_id", UUID(as_uuid=True)),  # no foreign key: it may be forgotten
    Column("workload", Text),
    Column("source", JSONB(none_as_null=True)),
    Column("target", JSONB(none_as_null=True)),
    Column("state", Text, nullable=False, server_default=text("'waiting'")),
    Column("state_reason", Text),
    Column("cluster_id", UUID(as_uuid=True)),
    Column("job_id", UUID(as_uuid=True)),
    _at("began_at"),
    _at("ended_at"),
    _at("deadline_at"),
    CheckConstraint("act IN ('create','grow','move','shrink','delete')", name="act"),
    CheckConstraint("state IN ('waiting','running','done','skipped','failed','dropped')", name="state"),
    CheckConstraint("(act = 'move') = (placement_id IS NOT NULL)", name="move"),
    CheckConstraint("act <> 'move' OR (source IS NOT NULL AND target IS NOT NULL)", name="spots"),
    Index("ix_plan_steps_began", "began_at", postgresql_where=text("began_at IS NOT NULL")),
)
