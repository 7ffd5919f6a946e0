"""Node groups, upgrades and imports, as they are asked for and shown."""

from marshmallow import fields

from api.schemas.clusters import LABELS_MAX, NAME_MEANS, TEXT_MAX
from api.schemas.fields import Count, Labels, Names, RequestSchema, Strict, Text
from shared.domain.clusters import NAME_MAX, NAME_PATTERN, NODE_COUNT_MAX, RESERVED_LABEL_PREFIX

_UUID_PATTERN = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z"


class NodeGroupCreate(RequestSchema):
    """A group of workers to add."""

    name = Text(
        most=NAME_MAX, pattern=NAME_PATTERN, means=NAME_MEANS, required=True, metadata={"description": "Unique in the cluster."}
    )
    flavor_id = Text(allow_none=True, metadata={"description": "Its nodes' flavor, id or name; by default the cluster's."})
    node_count = Count(least=0, most=NODE_COUNT_MAX, unit="nodes", metadata={"description": "Nodes.", "default": 1})
    min_node_count = Count(least=0, most=NODE_COUNT_MAX, unit="nodes", metadata={"description": "The least an autoscaler leaves."})
    max_node_count = Count(least=1, most=NODE_COUNT_MAX, unit="nodes", metadata={"description": "The most an autoscaler makes."})
    role = Text(
        most=NAME_MAX,
        pattern=NAME_PATTERN,
        means=NAME_MEANS,
        metadata={"description": "The label node-role of its nodes; `worker` by default, never `master`."},
    )
    labels = Labels(
        most=LABELS_MAX, longest=TEXT_MAX, reserved=RESERVED_LABEL_PREFIX, metadata={"description": "Magnum's labels of the group."}
    )


class NodeGroupResize(RequestSchema):
    """A group's new size."""

    node_count = Count(least=0, most=NODE_COUNT_MAX, unit="nodes", required=True, metadata={"description": "Nodes wanted."})
    nodes_to_remove = Names(
        most=NODE_COUNT_MAX,
        longest=TEXT_MAX,
        metadata={"description": "Servers (ids) that should go. Refused where the cluster's driver would not heed it."},
    )


class ClusterUpgrade(RequestSchema):
    """The version to upgrade to, as a template."""

    cluster_template_id = Text(required=True, metadata={"description": "A cluster template's id, or its name where one has it."})
    max_batch_size = Count(
        least=1, most=NODE_COUNT_MAX, unit="nodes", metadata={"description": "Nodes replaced at a time.", "default": 1}
    )
    node_group = Text(metadata={"description": "Only this group; by default the masters and the default group."})


class ClusterImport(RequestSchema):
    """A cluster that Magnum has already."""

    magnum_uuid = Text(
        required=True,
        pattern=_UUID_PATTERN,
        means="Must be a UUID.",
        metadata={"description": "Its uuid in Magnum."},
    )
    name = Text(
        most=NAME_MAX, pattern=NAME_PATTERN, means=NAME_MEANS, metadata={"description": "Its name here; by default its name there."}
    )


class NodeGroup(Strict):
    """A node group as Magnum shows it."""

    id = fields.String(required=True, metadata={"description": "Its uuid in Magnum."})
    name = fields.String(required=True)
    role = fields.String(required=True)
    node_count = fields.Integer(required=True)
    min_node_count = fields.Integer(required=True)
    max_node_count = fields.Integer(required=True, allow_none=True)
    flavor_id = fields.String(required=True, allow_none=True)
    image_id = fields.String(required=True, allow_none=True)
    status = fields.String(required=True, allow_none=True)
    status_reason = fields.String(required=True, allow_none=True)
    is_default = fields.Boolean(required=True)
    labels = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
