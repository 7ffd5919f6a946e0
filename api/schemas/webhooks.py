"""Webhooks, as they are added and shown."""

from marshmallow import fields

from api.schemas.fields import Names, RequestSchema, Strict, Text


class WebhookCreate(RequestSchema):
    """Where to post, and of what."""

    url = Text(
        most=2000,
        pattern=r"^https?://[!-~]+\Z",
        means="Must be an address that begins with https:// or http://, in ASCII and without spaces.",
        required=True,
        metadata={"description": "Redirects are not followed."},
    )
    events = Names(
        most=50,
        longest=64,
        least=0,
        metadata={"description": "Such as `cleanup.notified`, or `cleanup.*`; by default all.", "default": []},
    )
    secret = Text(
        least=16,
        most=255,
        metadata={"description": "Signs each post. By default one is made, and shown in this answer only.", "writeOnly": True},
    )
    description = Text(most=255)


class Webhook(Strict):
    """A webhook, and what has become of its deliveries."""

    id = fields.String(required=True)
    url = fields.String(required=True)
    events = fields.List(fields.String(), required=True)
    description = fields.String(required=True, allow_none=True)
    created_by = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    pending = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    last_delivered_at = fields.DateTime(required=True, allow_none=True)
    last_status = fields.Integer(required=True, allow_none=True)
    last_error = fields.String(required=True, allow_none=True)


class WebhookMade(Webhook):
    """A new webhook, with its secret."""

    secret = fields.String(required=True, metadata={"description": "Never shown again."})


class WebhookDelivery(Strict):
    """One event on its way to one receiver."""

    id = fields.String(required=True)
    event_id = fields.String(required=True)
    event = fields.String(required=True)
    state = fields.String(required=True, metadata={"enum": ["pending", "delivered", "failed"]})
    attempts = fields.Integer(required=True)
    due_at = fields.DateTime(required=True)
    last_status = fields.Integer(required=True, allow_none=True)
    last_error = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    finished_at = fields.DateTime(required=True, allow_none=True)
