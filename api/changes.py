"""What is changed about a cluster besides its size: node groups, sleep, version; and clusters from elsewhere."""

from typing import Final

from flask import Response

from api import inputs
from api.idempotency import idempotency
from api.inputs import read_fields
from api.kit import Kit
from api.promises import CHANGE, DONE, PROMISE, answer_change, valid
from api.render import answer, cluster_json, group_json, listing
from api.schemas import changes as schemas
from api.schemas import clusters as shown
from api.spec import Blueprint, Outcome, operation
from shared.errors import InvalidRequest, as_sentence

_ADD: Final = schemas.NodeGroupCreate()
_RESIZE: Final = schemas.NodeGroupResize()
_UPGRADE: Final = schemas.ClusterUpgrade()
_IMPORT: Final = schemas.ClusterImport()


def _answers(done: str, promised: str) -> dict[int, Outcome]:
    return {
        200: Outcome(
            f"With `Prefer: wait`: {done} With `validate_only`: it may be done.", (shown.ChangeAccepted, shown.Validated), DONE
        ),
        202: Outcome(promised, shown.ChangeAccepted, PROMISE),
    }


class ChangeViews:
    """The operations that change clusters."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("changes", __name__, description="Node groups, sleep and versions of clusters.")
        made.add_url_rule("/clusters/import", view_func=self.import_cluster, methods=["POST"])
        made.add_url_rule("/clusters/<cluster_id>/node-groups", view_func=self.list_node_groups, methods=["GET"])
        made.add_url_rule("/clusters/<cluster_id>/node-groups", view_func=self.add_node_group, methods=["POST"])
        made.add_url_rule("/clusters/<cluster_id>/node-groups/<node_group>", view_func=self.get_node_group, methods=["GET"])
        made.add_url_rule("/clusters/<cluster_id>/node-groups/<node_group>", view_func=self.resize_node_group, methods=["PUT"])
        made.add_url_rule("/clusters/<cluster_id>/node-groups/<node_group>", view_func=self.remove_node_group, methods=["DELETE"])
        made.add_url_rule("/clusters/<cluster_id>/hibernate", view_func=self.hibernate_cluster, methods=["POST"])
        made.add_url_rule("/clusters/<cluster_id>/wake", view_func=self.wake_cluster, methods=["POST"])
        made.add_url_rule("/clusters/<cluster_id>/upgrade", view_func=self.upgrade_cluster, methods=["POST"])
        return made

    # -- node groups --------------------------------------------------------------------------------------------------

    @operation(
        "List a cluster's node groups",
        {200: Outcome("The groups as Magnum shows them now.", schemas.NodeGroup, many=True)},
        refusals=(404, 409, 502, 504),
        query=inputs.NOTHING,
    )
    def list_node_groups(self, cluster_id: str) -> Response:
        """A bare array: the masters' group, the workers' default group, and those that were added."""
        actor = self._kit.guard.actor("node_groups:list", cluster=cluster_id)
        inputs.NOTHING.read()
        groups = self._kit.container.clusters.node_groups(actor, cluster_id)
        return listing([group_json(group) for group in groups], None)

    @operation(
        "Show a node group",
        {200: Outcome("The group as Magnum shows it now.", schemas.NodeGroup)},
        refusals=(404, 409, 502, 504),
        query=inputs.NOTHING,
    )
    def get_node_group(self, cluster_id: str, node_group: str) -> Response:
        """By its name or its uuid in Magnum."""
        actor = self._kit.guard.actor("node_groups:list", cluster=cluster_id)
        inputs.NOTHING.read()
        return answer(group_json(self._kit.container.clusters.node_group(actor, cluster_id, node_group)))

    @operation(
        "Add a node group",
        _answers("the group is there.", "The group is promised."),
        refusals=(404, 409, 502, 504),
        body=schemas.NodeGroupCreate,
        query=CHANGE,
        changes=True,
    )
    def add_node_group(self, cluster_id: str) -> Response:
        """More workers of another flavor in the same cluster, such as GPU nodes beside CPU nodes."""
        actor = self._kit.guard.actor("node_groups:change", cluster=cluster_id)
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_ADD)
        accepted = self._kit.container.clusters.request_node_group(
            actor,
            cluster_id,
            fields,
            findings=findings,
            idempotency=idempotency(actor, document),
            validate_only=validate_only,
        )
        return answer_change(self._kit, actor, accepted, "The new node group")

    @operation(
        "Resize a node group",
        _answers("the group has its new size.", "The new size is promised."),
        refusals=(404, 409, 502, 504),
        body=schemas.NodeGroupResize,
        query=CHANGE,
        changes=True,
    )
    def resize_node_group(self, cluster_id: str, node_group: str) -> Response:
        """The same as `PUT /clusters/{id}/scale` with `node_group`. Zero nodes are possible where the driver can."""
        actor = self._kit.guard.actor("node_groups:change", cluster=cluster_id)
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_RESIZE)
        accepted = self._kit.container.clusters.request_resize(
            actor,
            cluster_id,
            fields | {"node_group": node_group},
            findings=findings,
            idempotency=idempotency(actor, document),
            validate_only=validate_only,
        )
        return answer_change(self._kit, actor, accepted, f"The scaling of node group {node_group!r}")

    @operation(
        "Remove a node group",
        _answers("the group is gone.", "The removal is promised."),
        refusals=(404, 409, 502, 504),
        query=CHANGE,
        changes=True,
    )
    def remove_node_group(self, cluster_id: str, node_group: str) -> Response:
        """With all its nodes. The default groups go only with their cluster."""
        actor = self._kit.guard.actor("node_groups:change", cluster=cluster_id)
        validate_only = CHANGE.read()["validate_only"]
        accepted = self._kit.container.clusters.request_remove_group(
            actor, cluster_id, node_group, idempotency=idempotency(actor, None), validate_only=validate_only
        )
        return answer_change(self._kit, actor, accepted, f"The removal of node group {node_group!r}")

    # -- sleep and version --------------------------------------------------------------------------------------------

    @operation(
        "Hibernate a cluster",
        _answers("it sleeps.", "The hibernation is promised."),
        refusals=(404, 409, 502, 504),
        query=CHANGE,
        changes=True,
    )
    def hibernate_cluster(self, cluster_id: str) -> Response:
        """All workers go, group by group, and their numbers are remembered. The masters stay and cost. A driver that can't
        scale to zero keeps one worker in each group.
        """
        actor = self._kit.guard.actor("clusters:hibernate", cluster=cluster_id)
        validate_only = CHANGE.read()["validate_only"]
        accepted = self._kit.container.clusters.request_hibernate(
            actor, cluster_id, idempotency=idempotency(actor, None), validate_only=validate_only
        )
        return answer_change(self._kit, actor, accepted, "The hibernation")

    @operation(
        "Wake a cluster",
        _answers("it is awake.", "The waking is promised."),
        refusals=(404, 409, 502, 504),
        query=CHANGE,
        changes=True,
    )
    def wake_cluster(self, cluster_id: str) -> Response:
        """Every group gets the number of workers that it had when it was hibernated."""
        actor = self._kit.guard.actor("clusters:hibernate", cluster=cluster_id)
        validate_only = CHANGE.read()["validate_only"]
        accepted = self._kit.container.clusters.request_wake(
            actor, cluster_id, idempotency=idempotency(actor, None), validate_only=validate_only
        )
        return answer_change(self._kit, actor, accepted, "The waking")

    @operation(
        "Upgrade a cluster",
        _answers("it is upgraded.", "The upgrade is promised."),
        refusals=(404, 409, 502, 504),
        body=schemas.ClusterUpgrade,
        query=CHANGE,
        changes=True,
    )
    def upgrade_cluster(self, cluster_id: str) -> Response:
        """To the version of Kubernetes that another template's image and labels bring, `max_batch_size` nodes at a time."""
        actor = self._kit.guard.actor("clusters:upgrade", cluster=cluster_id)
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_UPGRADE)
        accepted = self._kit.container.clusters.request_upgrade(
            actor,
            cluster_id,
            fields,
            findings=findings,
            idempotency=idempotency(actor, document),
            validate_only=validate_only,
        )
        return answer_change(self._kit, actor, accepted, "The upgrade")

    # -- from elsewhere -----------------------------------------------------------------------------------------------

    @operation(
        "Take over a cluster",
        {
            200: Outcome("With `validate_only`: the body is right.", shown.Validated),
            201: Outcome("The cluster is managed from here now.", shown.Cluster, ("Location",)),
        },
        refusals=(409, 502, 504),
        body=schemas.ClusterImport,
        query=CHANGE,
    )
    def import_cluster(self) -> Response:
        """One that was made with Magnum's own API, as it is. Nothing about it changes but that this service may change it."""
        actor = self._kit.guard.actor("clusters:import")
        validate_only = CHANGE.read()["validate_only"]
        _, fields, findings = read_fields(_IMPORT)
        if findings:
            raise InvalidRequest(as_sentence(findings), errors=findings)
        if validate_only:
            return valid()
        cluster = self._kit.container.clusters.import_cluster(actor, fields["magnum_uuid"], name=fields.get("name"))
        return answer(cluster_json(cluster, None), 201, {"Location": f"/clusters/{cluster.id}"})
