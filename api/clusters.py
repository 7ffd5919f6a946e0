"""/clusters."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from flask import Response

from api import inputs
from api.idempotency import idempotency
from api.inputs import Param, Query, read_fields
from api.kit import Kit
from api.promises import CHANGE, DONE, PROMISE, answer_promise, change_json, progress, valid
from api.render import answer, cluster_json, listing, rfc3339
from api.schemas import clusters as schemas
from api.spec import Blueprint, Outcome, operation
from shared.domain.clusters import MagnumStatus, Phase
from shared.domain.metrics import FIELDS
from shared.domain.ports import ClusterFilter

_CREATE: Final = schemas.ClusterCreate()
_SCALE: Final = schemas.ClusterScale()
_WORDS: Final = [*(phase.value for phase in Phase), "CREATE_REQUESTED", *(status.value for status in MagnumStatus)]

LIST: Final = Query(
    (
        Param(
            "status",
            inputs.one_of({text.lower(): text for text in _WORDS}),
            {"type": "string", "enum": _WORDS},
            "A phase or one of Magnum's statuses, in any case.",
        ),
        Param(
            "workload_type",
            inputs.word,
            inputs.WORD,
            "The value of the label workload_type.",
        ),
        Param("managed", inputs.truth, {"type": "boolean"}, "Only those made by this service, or only the others."),
        inputs.LIMIT,
        inputs.MARKER,
    )
)


def _figures(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in FIELDS]
    if unknown:
        msg = f"There is no field {', '.join(repr(name) for name in unknown)}; there are {', '.join(FIELDS)}."
        raise ValueError(msg)
    return list(dict.fromkeys(names))


METRICS: Final = Query(
    (
        inputs.START,
        inputs.END,
        Param(
            "step",
            inputs.whole(1, 2_678_400),
            {"type": "integer", "minimum": 1, "maximum": 2_678_400},
            "Seconds of each step, over which samples are averaged; 60 by default.",
        ),
        Param(
            "fields",
            _figures,
            {
                "type": "string",
                "pattern": f"^({'|'.join(FIELDS)})(,({'|'.join(FIELDS)}))*$",
                "examples": ["power_consumption_watts", "node_count,energy_kwh"],
            },
            "Which figures of each step, with commas between them; all by default. `time` is always there.",
        ),
    )
)


class ClusterViews:
    """The operations on clusters."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("clusters", __name__, description="Clusters and what is asked of them.")
        made.add_url_rule("/clusters", view_func=self.create_cluster, methods=["POST"])
        made.add_url_rule("/clusters", view_func=self.list_clusters, methods=["GET"])
        made.add_url_rule("/clusters/<cluster_id>", view_func=self.get_cluster, methods=["GET"])
        made.add_url_rule("/clusters/<cluster_id>", view_func=self.delete_cluster, methods=["DELETE"])
        made.add_url_rule("/clusters/<cluster_id>/scale", view_func=self.scale_cluster, methods=["PUT"])
        made.add_url_rule("/clusters/<cluster_id>/status", view_func=self.get_cluster_status, methods=["GET"])
        made.add_url_rule("/clusters/<cluster_id>/metrics", view_func=self.get_cluster_metrics, methods=["GET"])
        return made

    @operation(
        "Create a cluster",
        {
            200: Outcome("With `validate_only`: nothing is wrong, and nothing was done.", schemas.Validated),
            201: Outcome("With `Prefer: wait`: the cluster is made.", schemas.ClusterAccepted, DONE),
            202: Outcome("The cluster is promised; `job` says how far it is.", schemas.ClusterAccepted, PROMISE),
        },
        refusals=(409, 502, 504),
        body=schemas.ClusterCreate,
        query=CHANGE,
        changes=True,
    )
    def create_cluster(self) -> Response:
        """The request is checked whole: against the rules of each field, and against the project's templates, flavors and
        keypairs. A 202 is a promise: the job is written down before it is answered.
        """
        actor = self._kit.guard.actor("clusters:create")
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_CREATE)
        accepted = self._kit.container.clusters.request_create(
            actor, fields, findings=findings, idempotency=idempotency(actor, document), validate_only=validate_only
        )
        if accepted is None:
            return valid()
        return answer_promise(
            self._kit, actor, accepted, 201, lambda cluster, job: {**cluster_json(cluster, job), "job_id": str(job.id)}
        )

    @operation(
        "List clusters",
        {200: Outcome("The project's clusters, in the order of their making.", schemas.Cluster, ("Link",), many=True)},
        query=LIST,
    )
    def list_clusters(self) -> Response:
        """A bare array. Where there are more, the header Link has the next page's address."""
        actor = self._kit.guard.actor("clusters:list")
        asked = LIST.read()
        where = ClusterFilter(asked["status"], asked["workload_type"], asked["managed"])
        clusters = self._kit.container.clusters
        page = clusters.list(actor, where, limit=asked["limit"], marker=asked["marker"])
        jobs = clusters.jobs_of(page.items) if page.items else {}
        items = [cluster_json(cluster, jobs.get(cluster.id)) for cluster in page.items]
        return listing(items, next_page("/clusters", asked, page.next_marker))

    @operation("Show a cluster", {200: Outcome("The cluster.", schemas.Cluster)}, refusals=(404,), query=inputs.NOTHING)
    def get_cluster(self, cluster_id: str) -> Response:
        """By its id here, or by its uuid in Magnum."""
        actor = self._kit.guard.actor("clusters:get", cluster=cluster_id)
        inputs.NOTHING.read()
        clusters = self._kit.container.clusters
        cluster = clusters.get(actor, cluster_id)
        return answer(cluster_json(cluster, clusters.jobs_of([cluster]).get(cluster.id)))

    @operation(
        "Delete a cluster",
        {
            200: Outcome(
                "With `Prefer: wait`: the cluster is gone. With `validate_only`: it may be deleted.",
                (schemas.ChangeAccepted, schemas.Validated),
                DONE,
            ),
            202: Outcome("The removal is promised.", schemas.ChangeAccepted, PROMISE),
        },
        refusals=(404, 409, 502, 504),
        query=CHANGE,
        changes=True,
    )
    def delete_cluster(self, cluster_id: str) -> Response:
        """What is pending on the cluster is withdrawn first. A second request, while the first is under way, finds its job."""
        actor = self._kit.guard.actor("clusters:delete", cluster=cluster_id)
        validate_only = CHANGE.read()["validate_only"]
        key = idempotency(actor, None)
        accepted = self._kit.container.clusters.request_delete(actor, cluster_id, idempotency=key, validate_only=validate_only)
        if accepted is None:
            return valid()
        return answer_promise(
            self._kit,
            actor,
            accepted,
            200,
            lambda cluster, job: {
                "message": f"The removal of cluster {cluster.name!r} {progress(job)}.",
                **change_json(self._kit, cluster, job),
            },
        )

    @operation(
        "Scale a cluster",
        {
            200: Outcome(
                "With `Prefer: wait`: the cluster has its new size. With `validate_only`: it may be scaled.",
                (schemas.ScaleAccepted, schemas.Validated),
                DONE,
            ),
            202: Outcome("The new size is promised.", schemas.ScaleAccepted, PROMISE),
        },
        refusals=(404, 409, 502, 504),
        body=schemas.ClusterScale,
        query=CHANGE,
        changes=True,
    )
    def scale_cluster(self, cluster_id: str) -> Response:
        """Waits its turn behind what is under way on the cluster. It has arrived when Magnum shows the nodes, not before."""
        actor = self._kit.guard.actor("clusters:scale", cluster=cluster_id)
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_SCALE)
        accepted = self._kit.container.clusters.request_resize(
            actor,
            cluster_id,
            fields,
            findings=findings,
            idempotency=idempotency(actor, document),
            validate_only=validate_only,
        )
        if accepted is None:
            return valid()
        return answer_promise(
            self._kit,
            actor,
            accepted,
            200,
            lambda cluster, job: {
                "message": f"The scaling of cluster {cluster.name!r} {progress(job)}.",
                "target_node_count": job.params.get("node_count", cluster.node_count),
                **change_json(self._kit, cluster, job),
            },
        )

    @operation(
        "Show where a cluster is, and why",
        {200: Outcome("Its phase, the reason, and what is under way.", schemas.ClusterStatus)},
        refusals=(404,),
        query=inputs.NOTHING,
    )
    def get_cluster_status(self, cluster_id: str) -> Response:
        """What was wanted beside what was seen, when Magnum was last asked, and how long such operations usually take."""
        actor = self._kit.guard.actor("clusters:get", cluster=cluster_id)
        inputs.NOTHING.read()
        return answer(self._kit.container.clusters.status(actor, cluster_id))

    @operation(
        "Show a cluster's metrics",
        {200: Outcome("Samples over the window.", schemas.ClusterMetrics)},
        refusals=(404,),
        query=METRICS,
    )
    def get_cluster_metrics(self, cluster_id: str) -> Response:
        """By default the last hour in steps of a minute. Steps of whole hours or days are read from roll-ups, with the same answer."""
        actor = self._kit.guard.actor("clusters:metrics", cluster=cluster_id)
        asked = METRICS.read()
        found = self._kit.container.metering.metrics(
            actor,
            cluster_id,
            start=asked["start"],
            end=asked["end"],
            step_s=asked["step"],
            fields=asked["fields"] or tuple(FIELDS),
        )
        return self._measured("metrics", found)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _measured(self, name: str, found: Mapping[str, Any]) -> Response:
        rest = {key: value for key, value in found.items() if key != "cluster_id"}
        return answer({"cluster_id": found["cluster_id"], name: rest, "timestamp": rfc3339(self._kit.container.clock.now())})


def next_page(path: str, asked: Mapping[str, Any], marker: str | None) -> str | None:
    """The next page's address, with the same filters; None where there is no next page."""
    if marker is None:
        return None
    kept = {name: _text(value) for name, value in asked.items() if value is not None} | {"marker": marker}
    return f"{path}?{urlencode(kept)}"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
