"""Who may come to a cluster: its grants, and the way into it."""

from typing import Final

from flask import Response

from api import inputs
from api.inputs import Param, Query, read_fields
from api.kit import Kit
from api.render import grant_json, listing, rfc3339
from api.schemas import access as schemas
from api.spec import Blueprint, Outcome, operation
from shared.domain.access import GrantRole, SubjectType
from shared.errors import InvalidRequest, as_sentence

_PUT: Final = schemas.GrantPut()
_KINDS: Final = [kind.value for kind in SubjectType]
SUBJECT: Final = Query(
    (
        Param(
            "subject_type",
            inputs.one_of({kind: kind for kind in _KINDS}),
            {"type": "string", "enum": _KINDS},
            "Whom the grant is for.",
            required=True,
        ),
        Param("subject_id", inputs.word, inputs.WORD, "The user's or group's id in Keystone.", required=True),
    )
)


class AccessViews:
    """The operations on grants and kubeconfigs."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("access", __name__, description="Who may come to a cluster.")
        made.add_url_rule("/clusters/<cluster_id>/kubeconfig", view_func=self.get_kubeconfig, methods=["GET"])
        made.add_url_rule("/clusters/<cluster_id>/grants", view_func=self.list_grants, methods=["GET"])
        made.add_url_rule("/clusters/<cluster_id>/grants", view_func=self.put_grant, methods=["PUT"])
        made.add_url_rule("/clusters/<cluster_id>/grants", view_func=self.delete_grant, methods=["DELETE"])
        return made

    @operation(
        "Get a kubeconfig",
        {200: Outcome("A kubeconfig, which holds a private key.", None, ("Kubeconfig-Expires-At",))},
        refusals=(404, 409, 502, 504),
        query=inputs.NOTHING,
        more={200: {"application/yaml": {"schema": {"type": "string"}}}},
    )
    def get_kubeconfig(self, cluster_id: str) -> Response:
        """With a fresh key and a certificate of the cluster's own authority, for everything in the cluster (`system:masters`).
        The key is in this answer and nowhere else; that it was given, to whom and when, is written down. Kubernetes can't take
        such a certificate back: it is valid until the time that the header says.
        """
        actor = self._kit.guard.actor("clusters:kubeconfig", cluster=cluster_id)
        inputs.NOTHING.read()
        made = self._kit.container.access.kubeconfig(actor, cluster_id)
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{made.cluster}.kubeconfig"',
            "Kubeconfig-Expires-At": rfc3339(made.expires_at) or "",
        }
        return Response(made.text, content_type="application/yaml", headers=headers)

    @operation(
        "List the grants on a cluster",
        {200: Outcome("The grants, oldest first.", schemas.Grant, many=True)},
        refusals=(404,),
        query=inputs.NOTHING,
    )
    def list_grants(self, cluster_id: str) -> Response:
        """Rights of single users and groups on this cluster, besides what their roles in the project allow."""
        actor = self._kit.guard.actor("grants:list", cluster=cluster_id)
        inputs.NOTHING.read()
        _, grants = self._kit.container.access.grants(actor, cluster_id)
        return listing([grant_json(grant) for grant in grants], None)

    @operation(
        "Grant a role on a cluster",
        {200: Outcome("All grants on the cluster, as they are now.", schemas.Grant, many=True)},
        refusals=(404,),
        body=schemas.GrantPut,
        query=inputs.NOTHING,
    )
    def put_grant(self, cluster_id: str) -> Response:
        """`viewer` looks, `operator` also changes and gets kubeconfigs, `owner` also deletes and grants. One subject has one role:
        a second grant replaces the first. Whether Keystone knows the subject is not checked.
        """
        actor = self._kit.guard.actor("grants:change", cluster=cluster_id)
        inputs.NOTHING.read()
        _, fields, findings = read_fields(_PUT)
        if findings:
            raise InvalidRequest(as_sentence(findings), errors=findings)
        _, grants = self._kit.container.access.grant(
            actor, cluster_id, SubjectType(fields["subject_type"]), fields["subject_id"], GrantRole(fields["role"])
        )
        return listing([grant_json(grant) for grant in grants], None)

    @operation(
        "Take a grant on a cluster away",
        {204: Outcome("The subject has no grant on the cluster any more.", None)},
        refusals=(404,),
        query=SUBJECT,
    )
    def delete_grant(self, cluster_id: str) -> Response:
        """At once. A kubeconfig that was given stays valid until it expires."""
        actor = self._kit.guard.actor("grants:change", cluster=cluster_id)
        asked = SUBJECT.read()
        self._kit.container.access.revoke(actor, cluster_id, SubjectType(asked["subject_type"]), asked["subject_id"])
        return Response(status=204)
