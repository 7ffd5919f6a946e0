"""Stacks, as they are asked for and shown."""

from marshmallow import fields

from api.schemas.clusters import NAME_MEANS
from api.schemas.fields import Map, Names, RequestSchema, Strict, Text
from api.schemas.jobs import Job
from shared.domain.clusters import NAME_MAX, NAME_PATTERN, Phase

MEMBERS_MAX = 32
PARAMETERS_MAX = 64
TEXT_MAX = 255


def _members() -> Names:
    return Names(
        least=2,
        most=MEMBERS_MAX,
        longest=TEXT_MAX,
        metadata={"description": "For `interconnect`: ids of the clusters to connect, each with a network of its own."},
    )


def _parameters() -> Map:
    return Map(most=PARAMETERS_MAX, metadata={"description": "The template's parameters; GET /stacks/templates lists them."})


class StackCreate(RequestSchema):
    """A stack to make out of a shipped template."""

    name = Text(
        most=NAME_MAX, pattern=NAME_PATTERN, means=NAME_MEANS, required=True, metadata={"description": "Unique in the project."}
    )
    template = Text(most=64, required=True, metadata={"description": "A shipped template's name.", "examples": ["network"]})
    parameters = _parameters()
    members = _members()


class StackUpdate(RequestSchema):
    """What is to change about a stack; the rest stays."""

    parameters = _parameters()
    members = _members()


class StackPreview(RequestSchema):
    """A stack to imagine: a new one, or another form of one that exists."""

    name = Text(most=NAME_MAX, pattern=NAME_PATTERN, means=NAME_MEANS)
    stack_id = Text(metadata={"description": "A stack whose update is to be previewed; without it, a new stack is."})
    template = Text(most=64, metadata={"description": "A shipped template's name, for a new stack."})
    parameters = _parameters()
    members = _members()


class StackLinks(Strict):
    """Where more about a stack is."""

    self = fields.String(required=True)
    cluster = fields.String(required=True, allow_none=True)


class Stack(Strict):
    """A stack."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    template = fields.String(required=True)
    phase = fields.Enum(Phase, by_value=True, required=True)
    reason = fields.String(required=True, allow_none=True)
    detail = fields.String(required=True, allow_none=True)
    status = fields.String(required=True, metadata={"description": "Heat's word, or CREATE_REQUESTED while Heat has none."})
    status_reason = fields.String(required=True, allow_none=True)
    heat_id = fields.String(required=True, allow_none=True, metadata={"description": "Takes the id's place in every path."})
    heat_name = fields.String(required=True)
    cluster_id = fields.UUID(required=True, allow_none=True, metadata={"description": "The cluster whose network it is."})
    members = fields.Dict(required=True, metadata={"description": "The clusters that it connects: id and name."})
    parameters = fields.Dict(required=True)
    outputs = fields.Dict(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)
    observed_at = fields.DateTime(required=True, allow_none=True)
    job = fields.Nested(Job, required=True, allow_none=True)
    links = fields.Nested(StackLinks, required=True)


class StackResource(Strict):
    """One thing that a stack made, or would make."""

    name = fields.String(required=True)
    type = fields.String(required=True)
    status = fields.String(required=True)
    physical_id = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)


class StackShown(Stack):
    """A stack with what it made."""

    resources = fields.List(fields.Nested(StackResource), required=True)


class StackAccepted(Stack):
    """A stack and the job that was promised."""

    job = fields.Nested(Job, required=True)
    job_id = fields.UUID(required=True)


class StackPreviewed(Strict):
    """What would happen."""

    template = fields.String(required=True)
    parameters = fields.Dict(required=True)
    changes = fields.Dict(
        required=True, metadata={"description": "Resources added, deleted, replaced, updated and unchanged, by Heat's judgement."}
    )


class StackTemplate(Strict):
    """A shipped template."""

    name = fields.String(required=True)
    description = fields.String(required=True)
    parameters = fields.Dict(required=True, metadata={"description": "As the template declares them."})
