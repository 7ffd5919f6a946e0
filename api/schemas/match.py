"""Workloads, matches, placements and the accelerators, as they are asked for and shown."""

from marshmallow import fields

from api.schemas.clusters import LABELS_MAX, TEXT_MAX
from api.schemas.fields import Amount, Choice, Count, Flag, Labels, Moment, Names, Part, Parts, RequestSchema, Strict, Text
from api.schemas.jobs import Job
from shared.domain.accelerators import KINDS
from shared.domain.capacity import DEVICES_MAX
from shared.domain.clusters import RESERVED_LABEL_PREFIX
from shared.domain.matching import Way
from shared.domain.workloads import PRIORITIES, REPLICAS_MAX, TYPES, Isolation

WORKLOADS_MAX = 1000
CORES_MAX = 4096
MEMORY_MAX_GB = 1_000_000
YEAR_S = 366 * 86_400


class AcceleratorWish(RequestSchema):
    """Which accelerators each pod is to have."""

    count = Count(least=1, most=DEVICES_MAX, unit="accelerators", metadata={"description": "On one node.", "default": 1})
    share = Amount(
        least=0.001, most=1, metadata={"description": "Of one accelerator, where a part is enough. Only with `count: 1`."}
    )
    kind = Choice(KINDS, metadata={"description": "By default any."})
    models = Names(
        most=64,
        longest=TEXT_MAX,
        metadata={"description": "Any of these: ids or aliases of GET /accelerators.", "examples": [["nvidia-a100", "rngd"]]},
    )
    memory_gb = Amount(least=0, most=100_000, above=True, metadata={"description": "Each has at least so much memory of its own."})


class Workload(RequestSchema):
    """A workload. Sizes are of one pod; each pod must find all it asks for on one node. Ceilings are of the whole workload."""

    name = Text(most=120, metadata={"description": "By default its type."})
    type = Choice(TYPES, metadata={"examples": ["ml_training"]})
    replicas = Count(least=1, most=REPLICAS_MAX, unit="pods", metadata={"description": "Pods, all in one cluster.", "default": 1})
    cpu_cores = Amount(least=0, most=CORES_MAX, unit="cores", metadata={"examples": [32]})
    memory_gb = Amount(least=0, most=MEMORY_MAX_GB, unit="GiB", metadata={"description": "GiB.", "examples": [128]})
    gpu_required = Flag(metadata={"description": "In place of `accelerator`."})
    gpu_count = Count(
        least=0, most=DEVICES_MAX, unit="GPUs", metadata={"description": "In place of `accelerator`.", "examples": [4]}
    )
    accelerator = Part(AcceleratorWish)
    power_budget = Amount(
        least=0,
        most=10_000_000,
        above=True,
        metadata={"description": "Watts that it may draw. Nothing that draws more is offered."},
    )
    max_cost_per_hour = Amount(least=0, most=1_000_000_000, above=True, metadata={"description": "In the price currency; as hard."})
    deadline = Moment(metadata={"description": "By when it must have ended."})
    duration_seconds = Amount(least=0, most=YEAR_S, unit="s", metadata={"description": "How long it runs once it has its place."})
    preferred_clusters = Names(most=100, longest=TEXT_MAX, metadata={"description": "Names or ids; first, if they have room."})
    forbidden_clusters = Names(most=100, longest=TEXT_MAX, metadata={"description": "Names or ids."})
    labels = Labels(
        most=LABELS_MAX, longest=TEXT_MAX, reserved=RESERVED_LABEL_PREFIX, metadata={"description": "That its cluster must have."}
    )
    isolation = Choice(
        [one.value for one in Isolation],
        metadata={"description": "`node`: nodes of its own; `cluster`: a cluster of its own.", "default": "shared"},
    )
    priority = Choice(list(PRIORITIES), metadata={"default": "normal"})
    movable = Flag(metadata={"description": "Whether a plan may move it.", "default": False})


class MatchRequest(Workload):
    """A workload to match."""

    place = Flag(metadata={"description": "Hold what is found at once, and let the cloud begin what it needs.", "default": False})
    lease_seconds = Amount(least=1, most=YEAR_S, unit="s", metadata={"description": "For how long, from now. It can be extended."})


class MatchManyRequest(RequestSchema):
    """Workloads to match one after the other, each with what those before it have left."""

    workloads = Parts(Workload, most=WORKLOADS_MAX, required=True)
    place = Flag(metadata={"description": "Hold what is found at once, and let the cloud begin what it needs.", "default": False})
    lease_seconds = Amount(least=1, most=YEAR_S, unit="s", metadata={"description": "For how long, from now."})


class MatchedCluster(Strict):
    """The cluster of a match."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    status = fields.String(required=True, metadata={"description": "Its phase."})
    available_resources = fields.Dict(
        required=True,
        allow_none=True,
        metadata={
            "description": "Cores, memory (GiB) and accelerators free there when it was matched; null for one that is being made."
        },
    )


class Alternative(Strict):
    """Another cluster that would do."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    suitability_score = fields.Float(required=True, metadata={"description": "1: as good as the best."})


class RecommendedTemplate(Strict):
    """What a new cluster would be made of."""

    name = fields.String(required=True)
    node_count = fields.Integer(required=True)
    master_count = fields.Integer(required=True)
    flavor = fields.String(required=True)
    estimated_cost_per_hour = fields.Float(required=True)


class WaitSeconds(Strict):
    """Seconds until the nodes are there."""

    p50 = fields.Float(required=True)
    p90 = fields.Float(required=True)
    runs = fields.Integer(required=True, metadata={"description": "Recorded runs that this comes from; 0: what is usual."})


class Candidate(Strict):
    """One way, with what it costs."""

    way = fields.Enum(Way, by_value=True, required=True)
    cluster_id = fields.UUID(required=True, allow_none=True)
    name = fields.String(required=True, metadata={"description": "The cluster's name, or the cluster type's."})
    node_group = fields.String(required=True, allow_none=True)
    nodes = fields.Integer(required=True, metadata={"description": "Nodes that it lies on, or that come new."})
    target_nodes = fields.Integer(required=True, allow_none=True, metadata={"description": "The node group's new size."})
    accelerator = fields.String(required=True, allow_none=True)
    price = fields.Float(required=True, metadata={"description": "What decides; the last of `reasons` has its terms."})
    cost_per_hour = fields.Float(required=True, metadata={"description": "Of the capacity that the workload has."})
    added_cost_per_hour = fields.Float(required=True, metadata={"description": "What the project pays more than now."})
    watts = fields.Float(required=True, metadata={"description": "That the workload draws, at its highest."})
    added_watts = fields.Float(required=True, metadata={"description": "That new nodes draw, at their highest."})
    wait_seconds = fields.Nested(WaitSeconds, required=True)
    fragmentation = fields.Float(
        required=True, metadata={"description": "Accelerators that become useless to the usual mix of work."}
    )
    preferred = fields.Boolean(required=True)
    reasons = fields.List(fields.String(), required=True)


class Rejected(Strict):
    """A way that fell out, and why."""

    way = fields.Enum(Way, by_value=True, required=True)
    id = fields.UUID(required=True, allow_none=True)
    name = fields.String(required=True)
    code = fields.String(required=True)
    detail = fields.String(required=True)


class Held(Strict):
    """Where a pod lies."""

    id = fields.UUID(required=True)
    cluster_id = fields.UUID(required=True, allow_none=True)
    node_group = fields.String(required=True)
    node = fields.Integer(required=True, metadata={"description": "Counted from 0 in its group."})
    replica = fields.Integer(required=True)
    devices = fields.List(fields.Integer(), required=True)


class MatchFailure(Strict):
    """Why what a way needs could not be begun."""

    reason = fields.String(required=True)
    detail = fields.String(required=True)


class MatchResult(Strict):
    """The answer for one workload."""

    action = fields.Enum(Way, by_value=True, required=True, allow_none=True, metadata={"description": "null: there is no way."})
    workload = fields.String(required=True)
    cluster = fields.Nested(MatchedCluster, required=True, allow_none=True)
    alternatives = fields.List(fields.Nested(Alternative), required=True)
    recommended_template = fields.Nested(RecommendedTemplate, required=True, allow_none=True)
    estimated_cost = fields.Float(required=True, allow_none=True, metadata={"description": "Per hour."})
    estimated_creation_time = fields.Float(required=True, allow_none=True, metadata={"description": "Seconds."})
    candidates = fields.List(fields.Nested(Candidate), required=True, metadata={"description": "Best first, the best 20."})
    rejected = fields.List(fields.Nested(Rejected), required=True, metadata={"description": "The first 50."})
    rejections = fields.Dict(
        keys=fields.String(), values=fields.Integer(), required=True, metadata={"description": "How many fell out, by code."}
    )
    placements = fields.List(fields.Nested(Held), required=True)
    lease_seconds = fields.Float(required=True, allow_none=True)
    job_id = fields.UUID(metadata={"description": "The job that grows, wakes or creates the cluster."})
    error = fields.Nested(MatchFailure)


class Matched(MatchResult):
    """A match that was answered, and its job."""

    match_id = fields.UUID(required=True, metadata={"description": "The match's own job."})
    timestamp = fields.DateTime(required=True)


class MatchedMany(Strict):
    """Matches that were answered, in the order of their asking, and their job."""

    results = fields.List(fields.Nested(MatchResult), required=True)
    match_id = fields.UUID(required=True)
    timestamp = fields.DateTime(required=True)


class MatchAccepted(Strict):
    """A match that was promised: `job.result` will have the answer."""

    message = fields.String(required=True)
    job = fields.Nested(Job, required=True)
    job_id = fields.UUID(required=True)
    timestamp = fields.DateTime(required=True)


class Placement(Strict):
    """Capacity that is held for a pod."""

    id = fields.UUID(required=True)
    request_id = fields.UUID(required=True, metadata={"description": "Pods of one workload have it in common."})
    cluster_id = fields.UUID(required=True)
    node_group = fields.String(required=True)
    node = fields.Integer(required=True)
    workload = fields.String(required=True)
    workload_type = fields.String(required=True, allow_none=True)
    replica = fields.Integer(required=True)
    cpu_cores = fields.Float(required=True)
    memory_gb = fields.Float(required=True)
    accelerators = fields.Float(required=True, metadata={"description": "A share counts as a part."})
    accelerator = fields.String(required=True, allow_none=True)
    devices = fields.List(fields.Integer(), required=True)
    isolation = fields.Enum(Isolation, by_value=True, required=True)
    priority = fields.Integer(required=True)
    movable = fields.Boolean(required=True)
    watts = fields.Float(required=True)
    cost_per_hour = fields.Float(required=True)
    job_id = fields.UUID(required=True, allow_none=True)
    created_by = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    expires_at = fields.DateTime(required=True, allow_none=True)
    ended_at = fields.DateTime(required=True, allow_none=True)
    end_reason = fields.String(required=True, allow_none=True)


class PlacementExtend(RequestSchema):
    """A new lease."""

    lease_seconds = Amount(least=1, most=YEAR_S, unit="s", required=True, metadata={"description": "From now on."})


class Available(Strict):
    """A cluster that takes work, and what is free on it."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    workload_type = fields.String(required=True, allow_none=True)
    available_cpu = fields.Float(required=True, metadata={"description": "Cores, the sum over its nodes."})
    available_memory = fields.Float(required=True, metadata={"description": "GiB."})
    available_gpu = fields.Float(
        required=True, metadata={"description": "Accelerators of any kind; a free share counts as a part."}
    )
    utilization = fields.Float(required=True, metadata={"description": "The held part of the scarcest resource, 0 to 1."})
    largest = fields.Dict(required=True, metadata={"description": "What is free on the node with the most room."})
    placements = fields.Integer(required=True)
    displaced = fields.Integer(
        required=True, metadata={"description": "Placements whose node is no more and that fit nowhere else."}
    )


class AvailableClusters(Strict):
    """Clusters that take work."""

    clusters = fields.List(fields.Nested(Available), required=True)
    total_count = fields.Integer(required=True)
    timestamp = fields.DateTime(required=True)


class Accelerator(Strict):
    """A row of the catalogue."""

    id = fields.String(required=True)
    vendor = fields.String(required=True)
    kind = fields.String(required=True)
    name = fields.String(required=True)
    memory_gb = fields.Float(required=True)
    idle_w = fields.Float(required=True)
    max_w = fields.Float(required=True)
    price_per_hour = fields.Float(required=True)
    slice_of = fields.String(required=True, allow_none=True)
    slices = fields.Integer(required=True)
    aliases = fields.List(fields.String(), required=True)
    resource = fields.String(required=True, allow_none=True)
    source = fields.String(required=True)


class Flavor(Strict):
    """A flavor, and what a node of it has, costs and draws."""

    id = fields.String(required=True)
    flavor = fields.String(required=True, metadata={"description": "Its name."})
    cpu_milli = fields.Integer(required=True, metadata={"description": "Thousandths of a core that workloads may have."})
    memory_mib = fields.Integer(required=True, metadata={"description": "MiB that workloads may have."})
    vcpus = fields.Integer(required=True)
    memory_gb = fields.Float(required=True)
    accelerator = fields.String(required=True, allow_none=True)
    accelerator_count = fields.Integer(required=True)
    read_from = fields.String(
        required=True, metadata={"description": "What told of the accelerators: an extra spec, the name, or configuration."}
    )
    price_per_hour = fields.Float(required=True)
    idle_w = fields.Float(required=True)
    max_w = fields.Float(required=True)
