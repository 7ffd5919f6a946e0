"""Clusters, as they are asked for and as they are shown."""

from marshmallow import fields

from api.schemas.fields import Choice, Count, Flag, Labels, Names, RequestSchema, Strict, Text
from api.schemas.jobs import Job
from shared.domain.clusters import MASTER_COUNT_MAX, NAME_MAX, NAME_PATTERN, NODE_COUNT_MAX, RESERVED_LABEL_PREFIX, Phase

NAME_MEANS = "Must begin with a letter and go on with letters, digits, '.', '_' or '-'."
LABELS_MAX = 64
TEXT_MAX = 255
#: A week: longer creations are not watched by anyone.
CREATE_TIMEOUT_MAX_MINUTES = 10_080
VOLUME_MAX_GB = 16_384


class ClusterCreate(RequestSchema):
    """A cluster to make."""

    name = Text(
        most=NAME_MAX, pattern=NAME_PATTERN, means=NAME_MEANS, required=True, metadata={"description": "Unique in the project."}
    )
    cluster_template_id = Text(required=True, metadata={"description": "A cluster template's id, or its name where one has it."})
    node_count = Count(
        least=1, most=NODE_COUNT_MAX, unit="nodes", metadata={"description": "Worker nodes.", "default": 1, "examples": [4]}
    )
    master_count = Count(
        least=1,
        most=MASTER_COUNT_MAX,
        odd=True,
        metadata={"description": "Master nodes, odd; more than 1 needs a template with a load balancer.", "enum": [1, 3, 5, 7]},
    )
    keypair = Text(allow_none=True, metadata={"description": "A keypair of the service's user; by default the template's."})
    labels = Labels(
        most=LABELS_MAX,
        longest=TEXT_MAX,
        reserved=RESERVED_LABEL_PREFIX,
        metadata={
            "description": f"Magnum's labels. Those that begin with `{RESERVED_LABEL_PREFIX}` are this service's own.",
            "examples": [{"workload_type": "training", "gpu_type": "nvidia-a100"}],
        },
    )
    merge_labels = Flag(metadata={"description": "Add the labels to the template's instead of replacing those."})
    flavor_id = Text(allow_none=True, metadata={"description": "The workers' flavor, id or name; by default the template's."})
    master_flavor_id = Text(allow_none=True, metadata={"description": "The masters' flavor, id or name."})
    create_timeout = Count(
        least=1, most=CREATE_TIMEOUT_MAX_MINUTES, unit="minutes", metadata={"description": "Minutes that Magnum may take."}
    )
    docker_volume_size = Count(
        least=1, most=VOLUME_MAX_GB, unit="GB", metadata={"description": "Docker volume of each node, in GB."}
    )
    fixed_network = Text(allow_none=True, metadata={"description": "An existing network's id or name."})
    fixed_subnet = Text(allow_none=True, metadata={"description": "An existing subnet's id or name."})
    network = Choice(
        ["isolated"],
        metadata={"description": "`isolated`: a network of its own, made before the cluster and removed after it."},
    )
    network_cidr = Text(
        most=18,
        metadata={"description": "The range of that network, such as 10.64.7.0/24; by default the next free one of the pool."},
    )
    floating_ip_enabled = Flag(metadata={"description": "Whether nodes get floating IPs."})


class ClusterScale(RequestSchema):
    """A cluster's new size."""

    node_count = Count(
        least=1, most=NODE_COUNT_MAX, unit="nodes", required=True, metadata={"description": "Worker nodes wanted.", "examples": [6]}
    )
    node_group = Text(metadata={"description": "The node group's name; by default the workers' default group."})
    nodes_to_remove = Names(
        most=NODE_COUNT_MAX,
        longest=TEXT_MAX,
        metadata={"description": "Servers (ids) that should go. Refused where the cluster's driver would not heed it."},
    )


class ClusterLinks(Strict):
    """Where more about a cluster is."""

    self = fields.String(required=True)
    status = fields.String(required=True)
    metrics = fields.String(required=True)
    costs = fields.String(required=True)
    node_groups = fields.String(required=True)


class Cluster(Strict):
    """A cluster."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    status = fields.String(required=True, metadata={"description": "Magnum's word, or CREATE_REQUESTED while Magnum has none."})
    phase = fields.Enum(Phase, by_value=True, required=True)
    reason = fields.String(
        required=True, allow_none=True, metadata={"description": "A stable code for what is wrong or waited for."}
    )
    detail = fields.String(
        required=True, allow_none=True, metadata={"description": "The same in words, Magnum's where it said any."}
    )
    node_count = fields.Integer(required=True, metadata={"description": "Worker nodes wanted."})
    observed_node_count = fields.Integer(required=True, allow_none=True, metadata={"description": "Worker nodes last seen."})
    master_count = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)
    labels = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    api_address = fields.String(required=True, allow_none=True)
    coe_version = fields.String(required=True, allow_none=True)
    magnum_uuid = fields.String(required=True, allow_none=True, metadata={"description": "Takes the id's place in every path."})
    cluster_template_id = fields.String(required=True)
    cluster_template_name = fields.String(required=True, allow_none=True)
    flavor_id = fields.String(required=True, allow_none=True)
    master_flavor_id = fields.String(required=True, allow_none=True)
    keypair = fields.String(required=True, allow_none=True)
    network_stack_id = fields.UUID(
        required=True, allow_none=True, metadata={"description": "The stack of its own network, where it has one."}
    )
    health_status = fields.String(required=True, allow_none=True)
    managed = fields.Boolean(required=True, metadata={"description": "False: made by others, and only watched."})
    gone = fields.Boolean(required=True, metadata={"description": "It vanished from Magnum without this service's doing."})
    job = fields.Nested(Job, required=True, allow_none=True, metadata={"description": "The job that matters most to it now."})
    links = fields.Nested(ClusterLinks, required=True)


class ClusterAccepted(Cluster):
    """A cluster and the job that was promised."""

    job = fields.Nested(Job, required=True)
    job_id = fields.UUID(required=True)


class ScaleAccepted(Strict):
    """A resize that was promised."""

    message = fields.String(required=True)
    cluster_id = fields.UUID(required=True)
    target_node_count = fields.Integer(required=True)
    timestamp = fields.DateTime(required=True)
    cluster = fields.Nested(Cluster, required=True)
    job = fields.Nested(Job, required=True)
    job_id = fields.UUID(required=True)


class ChangeAccepted(Strict):
    """A change that was promised."""

    message = fields.String(required=True)
    cluster_id = fields.UUID(required=True)
    timestamp = fields.DateTime(required=True)
    cluster = fields.Nested(Cluster, required=True)
    job = fields.Nested(Job, required=True)
    job_id = fields.UUID(required=True)


class Validated(Strict):
    """The answer to `?validate_only=true` when nothing is wrong."""

    valid = fields.Boolean(required=True)
    findings = fields.List(fields.Dict(), required=True)


class Expected(Strict):
    """How long such operations took before, in seconds."""

    p50 = fields.Float(required=True)
    p90 = fields.Float(required=True)
    runs = fields.Integer(required=True, metadata={"description": "How many runs this is drawn from."})


class ClusterStatus(Strict):
    """Where a cluster is, and why."""

    id = fields.UUID(required=True)
    magnum_uuid = fields.String(required=True, allow_none=True)
    phase = fields.Enum(Phase, by_value=True, required=True)
    reason = fields.String(required=True, allow_none=True)
    detail = fields.String(required=True, allow_none=True)
    status = fields.String(required=True)
    status_reason = fields.String(required=True, allow_none=True)
    health_status = fields.String(required=True, allow_none=True)
    health_status_reason = fields.Dict(required=True, allow_none=True)
    node_count = fields.Integer(required=True, allow_none=True, metadata={"description": "Worker nodes last seen."})
    desired_node_count = fields.Integer(required=True)
    master_count = fields.Integer(required=True)
    generation = fields.Integer(required=True, metadata={"description": "Counts accepted changes."})
    observed_generation = fields.Integer(required=True, metadata={"description": "The change last seen fulfilled."})
    observed_at = fields.DateTime(required=True, allow_none=True, metadata={"description": "When Magnum was last asked."})
    managed = fields.Boolean(required=True)
    gone = fields.Boolean(required=True)
    job = fields.Nested(Job, required=True, allow_none=True)
    jobs_waiting = fields.Integer(required=True)
    condition = fields.String(required=True, allow_none=True, metadata={"description": "progressing, slow or stalled."})
    deadline_at = fields.DateTime(required=True, allow_none=True)
    expected_seconds = fields.Nested(Expected, required=True, allow_none=True)


class ClusterMetrics(Strict):
    """A cluster's samples, averaged over steps."""

    cluster_id = fields.UUID(required=True)
    metrics = fields.Dict(required=True, metadata={"description": "start, end, step_seconds and points."})
    timestamp = fields.DateTime(required=True)
