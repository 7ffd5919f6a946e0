"""/credentials: the application credential with which this service may act in the project."""

from typing import Final

from flask import Response

from api import inputs
from api.inputs import read_fields
from api.kit import Kit
from api.render import answer
from api.schemas import credentials as schemas
from api.spec import Blueprint, Outcome, operation
from shared.errors import InvalidRequest, NotFound, as_sentence

_PUT: Final = schemas.CredentialPut()


class CredentialViews:
    """The operations on the project's credential."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their path."""
        made = Blueprint("credentials", __name__, description="How this service may act in the project.")
        made.add_url_rule("/credentials", view_func=self.get_credential, methods=["GET"])
        made.add_url_rule("/credentials", view_func=self.put_credential, methods=["PUT"])
        made.add_url_rule("/credentials", view_func=self.delete_credential, methods=["DELETE"])
        return made

    @operation(
        "Show the registered credential",
        {200: Outcome("What is registered.", schemas.Credential)},
        refusals=(404,),
        query=inputs.NOTHING,
    )
    def get_credential(self) -> Response:
        """Its secret is never shown."""
        actor = self._kit.guard.actor("credentials:get")
        inputs.NOTHING.read()
        found = self._kit.container.credentials.get(actor)
        if found is None:
            raise _none()
        return answer(found)

    @operation(
        "Register a credential",
        {200: Outcome("It is registered.", schemas.Credential)},
        refusals=(409, 502, 504),
        body=schemas.CredentialPut,
        query=inputs.NOTHING,
    )
    def put_credential(self) -> Response:
        """Keystone is asked whether it takes the credential, and whether it is this project's. An earlier one is replaced."""
        actor = self._kit.guard.actor("credentials:put")
        inputs.NOTHING.read()
        _, fields, findings = read_fields(_PUT)
        if findings:
            raise InvalidRequest(as_sentence(findings), errors=findings)
        return answer(self._kit.container.credentials.register(actor, **fields))

    @operation("Remove the credential", {204: Outcome("It is removed.", None)}, refusals=(404,), query=inputs.NOTHING)
    def delete_credential(self) -> Response:
        """Jobs that are under way go on while the token that they hold is valid."""
        actor = self._kit.guard.actor("credentials:delete")
        inputs.NOTHING.read()
        if not self._kit.container.credentials.remove(actor):
            raise _none()
        return Response(status=204)


def _none() -> NotFound:
    return NotFound(
        "No application credential is registered for the project.",
        reason="CREDENTIAL_NOT_FOUND",
        hint="Register one with PUT /credentials, or give the service's user a role in the project.",
    )
