"""What a deleted cluster has left behind: ports, floating IPs, load balancers and volumes that carry its name or id.

What this service made goes by its own jobs. The rest belongs to the driver or to the users of the cluster (a load balancer that a
Kubernetes service asked for, a persistent volume): it is reported in the result of the delete's job, and never removed here.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from shared.errors import CloudError
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from shared.db.uow import Database
    from shared.domain.clusters import Scope
    from shared.domain.ports import Cloud

log = get_logger(__name__)

#: A driver may take a moment longer than Magnum's word; and what was deleted long ago is not looked at any more.
_AFTER_S = 5.0
_WITHIN_S = 86_400.0
_AT_ONCE = 50


class Leftovers:
    """Looks once at what each deleted cluster has left."""

    def __init__(self, database: Database, cloud: Cloud) -> None:
        self._database = database
        self._cloud = cloud

    def check(self, scope: Scope) -> int:
        """Look for what the scope's recently deleted clusters left, one list of each kind for all of them; how many left something."""
        with self._database.single() as uow:
            deleted = uow.jobs.deletes_to_check(scope, after_s=_AFTER_S, within_s=_WITHIN_S, limit=_AT_ONCE)
        if not deleted:
            return 0
        marks = {job_id: [mark for mark in names if mark] for job_id, names in deleted.items()}
        try:
            found = self._cloud.stacks(scope).carrying(sorted({mark for names in marks.values() for mark in names}))
        except CloudError as exc:
            log.warning("leftovers.cloud_error", project=scope.project_id, reason=exc.reason, detail=exc.detail)
            return 0
        left = {job_id: [asdict(one) for name in names for one in found.get(name, [])] for job_id, names in marks.items()}
        with self._database.begin() as uow:
            uow.jobs.note_leftovers(left)
            uow.jobs.record([(job_id, "leftovers", "succeeded", {"leftovers": items}) for job_id, items in left.items() if items])
        count = sum(1 for items in left.values() if items)
        if count:
            log.warning("leftovers.found", project=scope.project_id, clusters=count)
        return count
