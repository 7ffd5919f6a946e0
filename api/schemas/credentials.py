"""The project's application credential."""

from marshmallow import fields

from api.schemas.fields import RequestSchema, Strict, Text


class CredentialPut(RequestSchema):
    """An application credential that lets this service act in the project."""

    application_credential_id = Text(required=True, pattern=r"^[A-Za-z0-9_-]+\Z", means="Must be an application credential's id.")
    secret = Text(required=True, metadata={"description": "Kept encrypted, never shown.", "writeOnly": True})


class Credential(Strict):
    """What is registered, without its secret."""

    project_id = fields.String(required=True)
    region = fields.String(required=True)
    application_credential_id = fields.String(required=True)
    registered_by = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
