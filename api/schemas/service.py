"""The service itself, and its errors."""

from marshmallow import Schema, fields

from api.schemas.fields import Strict


class FieldProblem(Strict):
    """One wrong field."""

    field = fields.String(required=True, metadata={"description": "`labels.gpu_type` is the field gpu_type of labels."})
    rule = fields.String(required=True, metadata={"description": "The rule it breaks, such as required, range or unknown."})
    detail = fields.String(required=True)
    pointer = fields.String(metadata={"description": "JSON Pointer (RFC 6901) into the body, where the field is in it."})


class Problem(Schema):
    """Why a request was not served (RFC 9457)."""

    type = fields.String(
        required=True, metadata={"description": "A page that explains this kind of problem.", "format": "uri-reference"}
    )
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True, metadata={"description": "What went wrong this time."})
    reason = fields.String(required=True, metadata={"description": "A stable code for programs."})
    instance = fields.String(required=True, metadata={"description": "The request's path.", "format": "uri-reference"})
    request_id = fields.String(required=True, metadata={"description": "The same as in the header x-openstack-request-id."})
    hint = fields.String(metadata={"description": "What to do about it."})
    errors = fields.List(fields.Nested(FieldProblem), metadata={"description": "Every wrong field at once."})
    upstream_status = fields.Integer(metadata={"description": "OpenStack's HTTP status, where it refused."})
    upstream_request_id = fields.String(metadata={"description": "OpenStack's request id, where it refused."})


class About(Strict):
    """What this is."""

    service = fields.String(required=True)
    version = fields.String(required=True)
    description = fields.String(required=True)
    status = fields.String(required=True)
    links = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class Health(Strict):
    """State of every part."""

    status = fields.String(required=True, metadata={"enum": ["healthy", "unhealthy"]})
    timestamp = fields.DateTime(required=True)
    services = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class Ready(Strict):
    """Whether requests can be taken."""

    ready = fields.Boolean(required=True)
    timestamp = fields.DateTime(required=True)
    checks = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
