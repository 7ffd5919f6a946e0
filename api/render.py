"""From domain objects to JSON. Written out by hand: a schema's dump costs ten times as much, and this is on every path."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from flask import Response
from werkzeug.datastructures import Headers

from shared.domain.access import Grant
from shared.domain.clusters import Cluster, NodeGroup
from shared.domain.jobs import Job, JobEvent
from shared.domain.stacks import Stack, StackResource
from shared.domain.workloads import Placement
from shared.services.templates import Choice

_ZERO = timedelta(0)


def rfc3339(at: datetime | None) -> str | None:
    """A time as text, in UTC with a Z."""
    if at is None:
        return None
    if at.utcoffset() != _ZERO:
        at = at.astimezone(UTC)
    return at.isoformat()[:-6] + "Z"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, UUID | Decimal):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Job):
        return job_json(value)
    msg = f"{type(value).__name__} is not JSON"
    raise TypeError(msg)


#: Non-finite numbers are no JSON: an error of ours, not an answer.
encode = json.JSONEncoder(default=_plain, separators=(",", ":"), allow_nan=False, check_circular=False).encode


class Answer(Response):
    """A whole answer whose headers are complete and ASCII, so that there is nothing to find out about them when it is sent."""

    default_mimetype = "application/json"

    def get_wsgi_headers(self, environ: Any) -> Headers:
        """As they are; werkzeug's own way escapes Location and costs 20 µs."""
        del environ
        return self.headers


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Answer(encode(body), status, headers)


def cluster_json(cluster: Cluster, job: Job | None) -> dict[str, Any]:
    """A cluster, with the job that matters most to it."""
    path = f"/clusters/{cluster.id}"
    return {
        "id": str(cluster.id),
        "name": cluster.name,
        "status": cluster.status or "CREATE_REQUESTED",
        "phase": cluster.phase.value,
        "reason": cluster.reason,
        "detail": cluster.reason_detail,
        "node_count": cluster.node_count,
        "observed_node_count": cluster.observed_node_count,
        "master_count": cluster.master_count,
        "created_at": rfc3339(cluster.created_at),
        "updated_at": rfc3339(cluster.updated_at),
        "labels": cluster.labels,
        "api_address": cluster.api_address,
        "coe_version": cluster.coe_version,
        "magnum_uuid": cluster.magnum_uuid,
        "cluster_template_id": cluster.template_id,
        "cluster_template_name": cluster.template_name,
        "flavor_id": cluster.flavor,
        "master_flavor_id": cluster.master_flavor,
        "keypair": cluster.keypair,
        "network_stack_id": str(cluster.network_stack_id) if cluster.network_stack_id else None,
        "health_status": cluster.health_status,
        "managed": cluster.managed,
        "gone": cluster.gone,
        "job": job_json(job) if job else None,
        "links": {
            "self": path,
            "status": f"{path}/status",
            "metrics": f"{path}/metrics",
            "costs": f"{path}/costs",
            "node_groups": f"{path}/node-groups",
        },
    }


def job_json(job: Job) -> dict[str, Any]:
    """A job, without what is between workers (leases, baselines)."""
    path = f"/jobs/{job.id}"
    return {
        "id": str(job.id),
        "kind": job.kind.value,
        "state": job.state.value,
        "step": job.step,
        "condition": job.condition,
        "cluster_id": str(job.cluster_id) if job.cluster_id else None,
        "cluster_name": job.cluster_name if job.cluster_id else None,
        "stack_id": str(job.stack_id) if job.stack_id else None,
        "stack_name": job.cluster_name if job.stack_id else None,
        "params": {name: value for name, value in job.params.items() if name not in {"before", "decided"}},
        "attempts": job.attempts,
        "after": str(job.after_id) if job.after_id else None,
        "blocked_by": str(job.blocked_by) if job.blocked_by else None,
        "created_at": rfc3339(job.created_at),
        "due_at": rfc3339(job.due_at),
        "started_at": rfc3339(job.started_at),
        "submitted_at": rfc3339(job.submitted_at),
        "progress_at": rfc3339(job.progress_at),
        "finished_at": rfc3339(job.finished_at),
        "deadline_at": rfc3339(job.deadline_at),
        "cancel_requested_at": rfc3339(job.cancel_requested_at),
        "cancel_reason": job.cancel_reason,
        "result": job.result,
        "error": job.error,
        "requested_by": job.requested_by,
        "request_id": job.request_id,
        "links": {
            "self": path,
            "events": f"{path}/events",
            "cluster": f"/clusters/{job.cluster_id}" if job.cluster_id else None,
            "stack": f"/stacks/{job.stack_id}" if job.stack_id else None,
        },
    }


def group_json(group: NodeGroup) -> dict[str, Any]:
    """A node group as Magnum shows it."""
    return {
        "id": group.uuid,
        "name": group.name,
        "role": group.role,
        "node_count": group.node_count,
        "min_node_count": group.least,
        "max_node_count": group.most,
        "flavor_id": group.flavor,
        "image_id": group.image,
        "status": group.status,
        "status_reason": group.status_reason,
        "is_default": group.is_default,
        "labels": group.labels,
    }


def placement_json(one: Placement) -> dict[str, Any]:
    """A placement."""
    return {
        "id": str(one.id),
        "request_id": str(one.request_id),
        "cluster_id": str(one.cluster_id),
        "node_group": one.node_group,
        "node": one.node,
        "workload": one.workload,
        "workload_type": one.workload_type,
        "replica": one.replica,
        "cpu_cores": one.cpu_milli / 1000,
        "memory_gb": round(one.memory_mib / 1024, 3),
        "accelerators": one.accelerators * one.share_milli / 1000,
        "accelerator": one.accelerator,
        "devices": list(one.devices),
        "isolation": one.isolation.value,
        "priority": one.priority,
        "movable": one.movable,
        "watts": one.watts,
        "cost_per_hour": one.cost_per_hour,
        "job_id": str(one.job_id) if one.job_id else None,
        "created_by": one.created_by,
        "created_at": rfc3339(one.created_at),
        "expires_at": rfc3339(one.expires_at),
        "ended_at": rfc3339(one.ended_at),
        "end_reason": one.end_reason,
    }


def grant_json(grant: Grant) -> dict[str, Any]:
    """A grant."""
    return {
        "subject_type": grant.subject_type.value,
        "subject_id": grant.subject_id,
        "role": grant.role.value,
        "granted_by": grant.granted_by,
        "created_at": rfc3339(grant.created_at),
    }


def template_json(choice: Choice) -> dict[str, Any]:
    """Something that clusters can be made of."""
    kind, template = choice.type, choice.template
    shown: dict[str, Any] = {
        "id": choice.id,
        "name": choice.name,
        "source": choice.source,
        "usable": not choice.problems,
        "problems": choice.problems,
        "magnum_uuid": template.uuid if template else None,
        "magnum_name": template.name if template else None,
        "coe": kind.coe if kind else (template.coe if template else ""),
        "image": kind.image if kind else (template.image if template else None),
        "flavor": kind.flavor if kind else (template.flavor if template else None),
        "master_flavor": kind.master_flavor if kind else (template.master_flavor if template else None),
        "labels": kind.labels if kind else (template.labels if template else {}),
        "driver": template.driver if template else (kind.driver if kind else None),
        "definition": kind.content() if kind else None,
        "links": {"self": f"/templates/{choice.id}"},
    }
    return shown


def stack_json(stack: Stack, job: Job | None) -> dict[str, Any]:
    """A stack, with the job that matters most to it."""
    return {
        "id": str(stack.id),
        "name": stack.name,
        "template": stack.template,
        "phase": stack.phase.value,
        "reason": stack.reason,
        "detail": stack.reason_detail,
        "status": stack.status or "CREATE_REQUESTED",
        "status_reason": stack.status_reason,
        "heat_id": stack.heat_id,
        "heat_name": stack.heat_name,
        "cluster_id": str(stack.cluster_id) if stack.cluster_id else None,
        "members": stack.members,
        "parameters": stack.parameters,
        "outputs": stack.outputs,
        "created_at": rfc3339(stack.created_at),
        "updated_at": rfc3339(stack.updated_at),
        "observed_at": rfc3339(stack.observed_at),
        "job": job_json(job) if job else None,
        "links": {"self": f"/stacks/{stack.id}", "cluster": f"/clusters/{stack.cluster_id}" if stack.cluster_id else None},
    }


def stack_resource_json(resource: StackResource) -> dict[str, Any]:
    """One thing that a stack made."""
    return {
        "name": resource.name,
        "type": resource.type,
        "status": resource.status,
        "physical_id": resource.physical_id,
        "reason": resource.reason,
    }


def event_json(event: JobEvent) -> dict[str, Any]:
    """One step of a job's history."""
    return {
        "seq": event.seq,
        "at": rfc3339(event.at),
        "step": event.step,
        "state": event.state.value,
        "detail": event.detail,
    }


def listing(items: Sequence[dict[str, Any]], next_url: str | None) -> Response:
    """A page: a bare array, with a Link header where there is more."""
    return answer(items, headers={"Link": f'<{next_url}>; rel="next"'} if next_url else None)
