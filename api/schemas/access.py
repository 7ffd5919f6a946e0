"""Grants, as they are asked for and shown."""

from marshmallow import fields

from api.schemas.fields import Choice, RequestSchema, Strict, Text
from shared.domain.access import GrantRole, SubjectType


class GrantPut(RequestSchema):
    """A role on the cluster for a user or a group."""

    subject_type = Choice([kind.value for kind in SubjectType], required=True, metadata={"description": "Whom it is for."})
    subject_id = Text(most=64, required=True, metadata={"description": "The user's or group's id in Keystone."})
    role = Choice([role.value for role in GrantRole], required=True, metadata={"description": "Each includes the one before."})


class Grant(Strict):
    """A role on the cluster."""

    subject_type = fields.Enum(SubjectType, by_value=True, required=True)
    subject_id = fields.String(required=True)
    role = fields.Enum(GrantRole, by_value=True, required=True)
    granted_by = fields.String(required=True, metadata={"description": "A user's id."})
    created_at = fields.DateTime(required=True)
