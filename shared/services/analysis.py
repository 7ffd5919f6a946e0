"""What a project's clusters would have to become for a list of workloads: a look ahead that changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shared.domain.clusters import Scope
from shared.domain.requirements import Analyst, Change, Need
from shared.domain.scaling import Action
from shared.errors import InvalidRequest, as_sentence
from shared.services.workloads import read_workload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from shared.db.uow import Database
    from shared.domain.ports import Actor, Clock
    from shared.errors import FieldError
    from shared.services.accelerators import AcceleratorService
    from shared.services.clusters import ClusterService
    from shared.services.fleets import Fleets
    from shared.services.matching import MatchService
    from shared.services.scaling import ScalingService

#: Which of several decisions stands for all of them: the one that brings the most.
_FIRST: Final = (Need.CREATE, Need.SCALE_OUT, Need.WAKE, Need.HIBERNATE, Need.SCALE_IN)
#: Clusters that are looked at for being too large, those that carry none of the workloads.
_SPARE_MOST: Final = 200


class AnalysisService:
    """Analyses for the actor's project."""

    def __init__(
        self,
        database: Database,
        fleets: Fleets,
        matching: MatchService,
        scaling: ScalingService,
        clusters: ClusterService,
        accelerators: AcceleratorService,
        clock: Clock,
        *,
        region: str,
    ) -> None:
        self._database = database
        self._fleets = fleets
        self._matching = matching
        self._scaling = scaling
        self._clusters = clusters
        self._accelerators = accelerators
        self._clock = clock
        self._region = region

    def analyze(
        self,
        actor: Actor,
        documents: Sequence[Mapping[str, Any]],
        *,
        cluster_ref: str | None = None,
        findings: Sequence[FieldError] = (),
    ) -> dict[str, Any]:
        """What to do so that these workloads run beside what is held now: one decision for each cluster, and the one that stands for all.

        With ``cluster_ref`` only that cluster is looked at, and no new one is thought of. Raises InvalidRequest with all findings,
        NotFound for a cluster that the project does not have.
        """
        wrong, works, now = list(findings), [], self._clock.now()
        known = {finding.field for finding in findings}
        for index, fields in enumerate(documents):
            work, bad = read_workload(fields, self._accelerators.catalogue, now=now, where=f"workloads.{index}.")
            wrong += [one for one in bad if one.field not in known]
            works.append(work)
        if wrong:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        scope = Scope(self._region, actor.project_id)
        only: UUID | None = self._clusters.get(actor, cluster_ref).id if cluster_ref else None
        offers = self._matching.offers_of(actor, scope) if only is None else []
        with self._database.begin() as uow:
            fleet, rows, shapes = self._fleets.imagined(uow, scope, only)
            members = {member.id: member for member in fleet.members.values()}
            analyst = Analyst(fleet, self._matching.matcher(uow, fleet, scope, offers), rows, shapes)
            found = analyst.analyse(works)
        spare = [one for key, one in members.items() if key not in found.used and key not in found.changes]
        changes = [*found.changes.values(), *self._spare(actor, [(one.id, one.name) for one in spare[:_SPARE_MOST]])]
        stands = next((one for need in _FIRST for one in changes if one.need is need), None)
        missing = [work.name for work, (name, _) in zip(works, found.placed, strict=True) if name is None]
        return {
            "action": stands.need.value if stands else Need.NONE.value,
            "cluster_id": stands.cluster_id if stands else None,
            "target_nodes": stands.target_nodes if stands else None,
            "reasons": _summary(len(works), missing, stands),
            "decisions": [one.as_dict() for one in changes],
            "workloads": [
                {"name": work.name, "cluster": name, "reasons": reasons}
                for work, (name, reasons) in zip(works, found.placed, strict=True)
            ],
        }

    def _spare(self, actor: Actor, clusters: Sequence[tuple[UUID, str]]) -> list[Change]:
        """Clusters that none of the workloads needs, and that their policy would make smaller."""
        found = []
        for cluster_id, name in clusters:
            said = self._scaling.explain(actor, str(cluster_id))
            if said["action"] in {Action.SCALE_IN, Action.HIBERNATE}:
                targets = dict(said["targets"])
                found.append(
                    Change(Need(said["action"]), name, str(cluster_id), targets, list(said["reasons"]), list(said["blocked"]))
                )
        return found


def _summary(count: int, missing: Sequence[str], stands: Change | None) -> list[str]:
    said = [f"{count - len(missing)} of {count} workloads have a place, beside what is held now."]
    if missing:
        said.append(f"Nothing can be done for: {', '.join(missing[:10])}{' and others' if len(missing) > 10 else ''}.")  # noqa: PLR2004
    if stands is not None:
        said += stands.reasons[:3]
    return said
