"""Cluster types, as they are asked for and shown."""

from marshmallow import fields

from api.schemas.fields import Count, Flag, Labels, ListOf, Map, RequestSchema, Strict, Text
from shared.domain.cluster_types import NAME_MAX
from shared.domain.clusters import MASTER_COUNT_MAX, NAME_PATTERN, NODE_COUNT_MAX, RESERVED_LABEL_PREFIX

_MEANS = "Must begin with a letter and go on with letters, digits, '.', '_' or '-'."
GROUPS_MAX = 16


class _Type(RequestSchema):
    description = Text(metadata={"description": "What it is for."})
    coe = Text(metadata={"description": "kubernetes."})
    image = Text(required=True, metadata={"description": "A Glance image with os_distro."})
    images = Map(most=8, metadata={"description": "Other images for single Magnum drivers, by the driver's name."})
    flavor = Text(required=True, metadata={"description": "The workers' flavor."})
    master_flavor = Text(required=True, metadata={"description": "The masters' flavor."})
    node_count = Count(
        least=0, most=NODE_COUNT_MAX, unit="nodes", metadata={"description": "Workers, where a request says nothing."}
    )
    master_count = Count(
        least=1,
        most=MASTER_COUNT_MAX,
        odd=True,
        metadata={"description": "Masters, where a request says nothing.", "enum": [1, 3, 5, 7]},
    )
    volume_driver = Text()
    network_driver = Text(metadata={"description": "The CNI, such as calico."})
    network_drivers = Map(most=8, metadata={"description": "Other ones for single Magnum drivers, by the driver's name."})
    external_network = Text()
    keypair = Text()
    driver = Text(metadata={"description": "Magnum's driver; by default the one of the image's operating system."})
    docker_volume_size = Count(least=1, most=16_384, unit="GB")
    master_lb_enabled = Flag()
    floating_ip_enabled = Flag()
    labels = Labels(most=64, longest=255, reserved=RESERVED_LABEL_PREFIX, metadata={"description": "Magnum's labels."})
    node_groups = ListOf(
        most=GROUPS_MAX,
        metadata={
            "description": "Further groups of workers: name, flavor, node_count, min_node_count, max_node_count, role, labels."
        },
    )


class TemplateCreate(_Type):
    """A cluster type to make."""

    name = Text(most=NAME_MAX, pattern=NAME_PATTERN, means=_MEANS, required=True, metadata={"description": "Its id, too."})


class TemplateReplace(_Type):
    """A cluster type's new content, whole."""

    name = Text(most=NAME_MAX, pattern=NAME_PATTERN, means=_MEANS, metadata={"description": "As it is; a type is not renamed."})


class TemplateLinks(Strict):
    """Where it is."""

    self = fields.String(required=True)


class Template(Strict):
    """Something that clusters can be made of: its id is what `cluster_template_id` takes."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    source = fields.String(
        required=True, metadata={"description": "file (shipped), api (made here), or magnum (a template of Magnum's own)."}
    )
    usable = fields.Boolean(required=True)
    problems = fields.List(fields.String(), required=True, metadata={"description": "Why the project can't use it."})
    magnum_uuid = fields.String(required=True, allow_none=True, metadata={"description": "None until a cluster is made of it."})
    magnum_name = fields.String(required=True, allow_none=True)
    coe = fields.String(required=True)
    image = fields.String(required=True, allow_none=True)
    flavor = fields.String(required=True, allow_none=True)
    master_flavor = fields.String(required=True, allow_none=True)
    labels = fields.Dict(required=True)
    driver = fields.String(required=True, allow_none=True)
    definition = fields.Dict(required=True, allow_none=True, metadata={"description": "A type as it is written."})
    links = fields.Nested(TemplateLinks, required=True)
