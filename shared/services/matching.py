"""Matches: the best place for a workload, held where that is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from shared.domain.clusters import DEFAULT_GROUP, Scope
from shared.domain.jobs import Job, JobError, JobKind, JobState
from shared.domain.matching import NOW, Candidate, Limits, Matched, Matcher, Seat, TypeOffer, Wait, Way
from shared.domain.ports import Actor, Idempotency
from shared.domain.workloads import Isolation, Placement, Workload
from shared.errors import (
    CloudError,
    Conflict,
    FieldError,
    IdempotencyMismatch,
    InvalidRequest,
    KcloudError,
    LeaseLost,
    NotFound,
    Unavailable,
    as_sentence,
)
from shared.services.power import watts_of
from shared.services.workloads import as_fields, from_fields, read_workload

if TYPE_CHECKING:
    from shared.db.uow import Database, UnitOfWork
    from shared.domain.capacity import Shape
    from shared.domain.fleet import ProjectFleet
    from shared.domain.ports import Accepted, Catalog, Clock
    from shared.services.accelerators import AcceleratorService
    from shared.services.catalogs import Catalogs
    from shared.services.clusters import ClusterService
    from shared.services.fleets import Fleets
    from shared.services.templates import TemplateService
    from shared.settings import PlacementSettings

#: Seconds where nothing was recorded yet (FACTS.md, B10).
_USUAL: Final = {Way.SCALE: Wait(180.0, 420.0), Way.WAKE: Wait(180.0, 420.0), Way.CREATE: Wait(300.0, 600.0)}
_KIND: Final = {Way.SCALE: JobKind.RESIZE, Way.WAKE: JobKind.WAKE, Way.CREATE: JobKind.CREATE}
_REMEMBERED_S: Final = 30.0
_DEADLINE: Final = timedelta(minutes=10)
#: Alternatives in the short form of the answer.
_ALTERNATIVES: Final = 2
#: Stands in a placement until the database writes when it was made.
_WRITTEN: Final = frozenset({"cluster_id", "created_at", "expires_at", "ended_at", "end_reason", "job_id", "created_by"})
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class AcceptedMatch:
    """A match's job: ended where it was done at once."""

    job: Job
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a job is to find out. ``lease_s``: of what is held; None: nothing is to be held."""

    works: tuple[Workload, ...]
    lease_s: float | None


class MatchService:
    """Matches of the actor's project."""

    def __init__(
        self,
        database: Database,
        fleets: Fleets,
        catalogs: Catalogs,
        templates: TemplateService,
        accelerators: AcceleratorService,
        clusters: ClusterService,
        clock: Clock,
        *,
        region: str,
        settings: PlacementSettings,
        nudge: Callable[[], None],
    ) -> None:
        self._database = database
        self._fleets = fleets
        self._catalogs = catalogs
        self._templates = templates
        self._accelerators = accelerators
        self._clusters = clusters
        self._clock = clock
        self._region = region
        self._settings = settings
        self._nudge = nudge
        self._waits: dict[str, tuple[float, dict[tuple[Way, str], Wait]]] = {}
        self._offers: dict[str, tuple[float, Catalog, list[TypeOffer]]] = {}

    # -- asking -------------------------------------------------------------------------------------------------------------

    def request(
        self,
        actor: Actor,
        documents: Sequence[Mapping[str, Any]],
        *,
        many: bool,
        place: bool,
        lease_s: float | None,
        findings: Sequence[FieldError] = (),
        idempotency: Idempotency | None = None,
        validate_only: bool = False,
        at_once: bool = False,
    ) -> AcceptedMatch | None:
        """Promise a match, or with ``at_once`` answer it now where nothing needs the cloud for it. None: it was only validated."""
        asked = self._asked(documents, many=many, place=place, lease_s=lease_s, findings=findings)
        scope = Scope(self._region, actor.project_id)
        if validate_only:
            self._catalogs.get(scope)
            return None
        now = self._clock.now()
        job = Job(
            id=uuid4(),
            project_id=actor.project_id,
            region=self._region,
            cluster_id=None,
            kind=JobKind.MATCH,
            state=JobState.QUEUED,
            created_at=now,
            due_at=now,
            deadline_at=now + _DEADLINE,
            params={
                "name": asked.works[0].name if not many else f"{len(asked.works)} workloads",
                "workloads": [as_fields(work) for work in asked.works],
                "many": many,
                "lease_s": asked.lease_s,
            },
            requested_by=actor.user_id,
            request_id=actor.request_id,
        )
        if place:
            self._clusters.require_credential(scope)
        if at_once:
            done = self._at_once(actor, job, asked, idempotency)
            if done is not None:
                return done
        with self._database.begin() as uow:
            replay = self._recall(uow, actor, idempotency)
            if replay:
                return replay
            if idempotency and not uow.accept.remember(actor.project_id, idempotency, job.id):
                raise _key_in_use(idempotency)
            uow.accept.change(job)
        self._nudge()
        return AcceptedMatch(job)

    def _asked(
        self,
        documents: Sequence[Mapping[str, Any]],
        *,
        many: bool,
        place: bool,
        lease_s: float | None,
        findings: Sequence[FieldError],
    ) -> _Asked:
        wrong = list(findings)
        works = []
        now = self._clock.now()
        for index, fields in enumerate(documents):
            where = f"workloads.{index}." if many else ""
            work, bad = read_workload(fields, self._accelerators.catalogue, now=now, where=where)
            known = {finding.field for finding in findings}
            wrong += [one for one in bad if one.field not in known]
            works.append(work)
        most = self._settings.lease_max_s
        if lease_s is not None and lease_s > most:
            wrong.append(FieldError("lease_seconds", "range", f"A lease is at most {most:.0f} seconds."))
        if lease_s is not None and not place:
            wrong.append(FieldError("lease_seconds", "conflict", "Only with `place: true` is anything held."))
        if wrong:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        return _Asked(tuple(works), (lease_s or self._settings.lease_s) if place else None)

    def _at_once(self, actor: Actor, job: Job, asked: _Asked, idempotency: Idempotency | None) -> AcceptedMatch | None:
        """The ended job; None, and nothing written, where the best way needs the cloud: a worker does that."""
        scope = Scope(job.region, job.project_id)
        offers = self.offers_of(actor, scope)
        with self._fleets.held(scope) as fresh, self._database.begin() as uow:
            replay = self._recall(uow, actor, idempotency)
            if replay:
                return replay
            if asked.lease_s is not None:
                uow.placements.hold_scope(scope)
            fleet = fresh(uow)
            outcomes = self._outcomes(uow, fleet, scope, asked, offers, many=_several(job))
            if asked.lease_s is not None and any(one.best and one.best.way is not Way.USE for one in outcomes):
                for one in outcomes:
                    one.unseat(fleet)
                return None
            if idempotency and not uow.accept.remember(actor.project_id, idempotency, job.id):
                raise _key_in_use(idempotency)
            result = self._result(job, asked, outcomes, [])
            ended = replace(job, state=JobState.SUCCEEDED, finished_at=self._clock.now(), result=result, step="succeeded")
            uow.jobs.write_ended(ended, [("accepted", {}), ("succeeded", {})])
            held = [one for outcome in outcomes for one in outcome.placements]
            self._hold(uow, job, held, asked.lease_s)
        return AcceptedMatch(ended)

    # -- deciding ----------------------------------------------------------------------------------------------------------

    def run(self, job: Job) -> Job:
        """Answer a match that a worker holds: decide, let the cloud begin what the best way needs, hold, end the job.

        Of several workloads, those after one that needs nodes are decided when these are promised: they may share them.
        """
        actor = Actor(job.requested_by or "", job.project_id, frozenset({"member"}), request_id=job.request_id or "")
        try:
            return self._carried(actor, job)
        except (LeaseLost, Unavailable, CloudError):
            raise
        except KcloudError as exc:
            error = JobError(exc.reason, exc.detail, exc.hint).as_dict()
            with self._database.begin() as uow:
                ended = uow.jobs.finish(job, JobState.FAILED, error=error)
                uow.jobs.record([(job.id, "failed", ended.state.value, error)])
            return ended

    def _carried(self, actor: Actor, job: Job) -> Job:
        while not job.is_terminal:
            begun = "begins" in job.params.get("decided", {})
            job = self._follow(actor, job) if begun else self._decide(actor, job)
        return job

    def _decide(self, actor: Actor, job: Job) -> Job:
        """Decide what is not decided, up to the first that needs the cloud: that is written down before it is begun."""
        scope = Scope(job.region, job.project_id)
        done = _shown(job.params["decided"]["result"]) if "decided" in job.params else []
        works = tuple(from_fields(item) for item in job.params["workloads"][len(done) :])
        asked = _Asked(works, job.params["lease_s"])
        offers = self.offers_of(actor, scope)
        with self._fleets.held(scope) as fresh, self._database.begin() as uow:
            if asked.lease_s is not None:
                uow.placements.hold_scope(scope)
            outcomes = self._outcomes(uow, fresh(uow), scope, asked, offers, many=_several(job), up_to_begin=True)
            result = self._result(job, asked, outcomes, done)
            begins = [
                _begin_of(job, number, one) if asked.lease_s is not None else None for number, one in enumerate(outcomes, len(done))
            ]
            now = [one for outcome, begin in zip(outcomes, begins, strict=True) if begin is None for one in outcome.placements]
            self._hold(uow, job, now, asked.lease_s)
            if any(begins):
                later = [
                    [_remembered(one) for one in outcome.placements] if begin else []
                    for outcome, begin in zip(outcomes, begins, strict=True)
                ]
                before: list[Any] = [None] * len(done)
                decided = {"result": result, "begins": before + begins, "placements": before + later}
                kept = uow.jobs.keep_params(job, {**job.params, "decided": decided})
                uow.jobs.record([(job.id, "decided", kept.state.value, {"ways": [b["way"] for b in begins if b]})])
                return kept
            return self._end(uow, job, result)

    def _follow(self, actor: Actor, job: Job) -> Job:
        """Let the cloud begin what was decided, hold what will be there, and end the job when all is decided. All of it may be repeated."""
        decided = job.params["decided"]
        result, shown = decided["result"], _shown(decided["result"])
        held: list[Placement] = []
        for number, begin in enumerate(decided["begins"]):
            if begin is None:
                continue
            try:
                accepted = self._begin(actor, begin, Idempotency(f"match-{job.id}-{number}", "match"))
            except (InvalidRequest, Conflict, NotFound) as exc:
                if len(job.params["workloads"]) == 1:
                    raise
                shown[number] |= {"error": {"reason": exc.reason, "detail": exc.detail}, "placements": []}
                continue
            cluster = accepted.cluster
            shown[number]["job_id"] = str(accepted.job.id)
            shown[number]["cluster"] = {
                "id": str(cluster.id),
                "name": cluster.name,
                "status": cluster.phase.value,
                "available_resources": None,
            }
            for one in shown[number]["placements"]:
                one["cluster_id"] = str(cluster.id)
            held += [_recalled(one, cluster.id) for one in decided["placements"][number]]
        with self._database.begin() as uow:
            self._hold(uow, job, held, job.params["lease_s"])
            if len(shown) < len(job.params["workloads"]):
                return uow.jobs.keep_params(job, {**job.params, "decided": {"result": result}})
            return self._end(uow, job, result)

    @staticmethod
    def _end(uow: UnitOfWork, job: Job, result: Mapping[str, Any]) -> Job:
        ended = uow.jobs.finish(job, JobState.SUCCEEDED, result=result)
        uow.jobs.record([(job.id, "succeeded", ended.state.value, {})])
        return ended

    def _begin(self, actor: Actor, begin: Mapping[str, Any], key: Idempotency) -> Accepted:
        """The job of a cluster that a way needs. A repeated call finds the one that it began before, by its key."""
        fields = begin["fields"]
        if begin["way"] == Way.CREATE:
            accepted = self._clusters.request_create(actor, fields, idempotency=key)
        elif begin["way"] == Way.WAKE:
            accepted = self._clusters.request_wake(actor, begin["cluster_id"], idempotency=key)
        else:
            accepted = self._clusters.request_resize(actor, begin["cluster_id"], fields, idempotency=key)
        if accepted is None:
            msg = "A request that was not only to be validated gives a job."
            raise TypeError(msg)
        return accepted

    def _outcomes(
        self,
        uow: UnitOfWork,
        fleet: ProjectFleet,
        scope: Scope,
        asked: _Asked,
        offers: Sequence[TypeOffer],
        *,
        many: bool,
        up_to_begin: bool = False,
    ) -> list[_Outcome]:
        matcher = self.matcher(uow, fleet, scope, offers)
        outcomes: list[_Outcome] = []
        for work in asked.works:
            matched = matcher.match(work, first_only=many)
            outcome = _Outcome(work, matched)
            if outcome.best is not None and outcome.best.member is not None:
                outcome.free = fleet.free_of(outcome.best.member)
            if asked.lease_s is not None:
                outcome.seat(fleet, scope)
            outcomes.append(outcome)
            if up_to_begin and asked.lease_s is not None and outcome.best is not None and outcome.best.way is not Way.USE:
                break
        return outcomes

    def matcher(self, uow: UnitOfWork, fleet: ProjectFleet, scope: Scope, offers: Sequence[TypeOffer]) -> Matcher:
        """What answers over a fleet: within the budgets, with the durations that were recorded."""
        limits = self._limits(uow, fleet, scope)
        waits = self._waits_of(uow, scope)
        return Matcher(fleet, self._accelerators.catalogue, limits, now=self._clock.now(), waits=waits, offers=offers)

    @staticmethod
    def _hold(uow: UnitOfWork, job: Job, placements: Sequence[Placement], lease_s: float | None) -> None:
        if placements:
            mine = [replace(one, job_id=job.id, created_by=job.requested_by) for one in placements]
            uow.placements.add(mine, lease_s=lease_s)

    # -- what a match goes by --------------------------------------------------------------------------------------------------

    def _limits(self, uow: UnitOfWork, fleet: ProjectFleet, scope: Scope) -> Limits:
        headroom: dict[str, float] = {}
        if self._settings.project_power_w is not None:
            headroom["project's power budget"] = self._settings.project_power_w - fleet.max_w()
        if self._settings.site_power_w is not None:
            nodes = uow.placements.nodes(scope.region)
            shapes = self._accelerators.shapes(self._catalogs.get(scope))
            others = sum(watts_of(shapes.get(flavor)) * count for project, flavor, count in nodes if project != scope.project_id)
            headroom["site's power budget"] = self._settings.site_power_w - fleet.max_w() - others
        own = uow.budgets.bounds(scope.project_id)
        if own.watts is not None:
            headroom[f"project's power budget {own.power!r}"] = own.watts - fleet.max_w()
        money = {f"budget {own.refusing.budget.name!r}, which refuses whatever adds": 0.0} if own.refusing else {}
        return Limits(headroom, self._settings.electricity_per_kwh, money)

    def _waits_of(self, uow: UnitOfWork, scope: Scope) -> dict[tuple[Way, str], Wait]:
        held = self._waits.get(scope.region)
        if held is None or held[0] < time.monotonic():
            found: dict[tuple[Way, str], Wait] = {(Way.USE, ""): NOW}
            for way, kind in _KIND.items():
                known = uow.series.expected_of_kind(scope.region, kind.value)
                found[way, ""] = Wait(*known) if known else _USUAL[way]
            held = self._waits[scope.region] = (time.monotonic() + _REMEMBERED_S, found)
        return held[1]

    def offers_of(self, actor: Actor, scope: Scope) -> list[TypeOffer]:
        """The cluster types and templates that could be used for a new cluster."""
        catalog = self._catalogs.get(scope)
        held = self._offers.get(actor.project_id)
        if held is not None and held[0] > time.monotonic() and held[1] is catalog:
            return held[2]
        shapes = self._accelerators.shapes(catalog)
        offers: dict[str, TypeOffer] = {}  # by name: a Magnum template of a type's name is used in its place, and comes after it
        for choice in self._templates.all(actor):
            kind, template = choice.type, choice.template
            if choice.problems or (kind is not None and kind.node_groups):
                continue  # not usable here; or it makes further groups that nobody asked for
            flavor = kind.flavor if kind is not None else template.flavor if template is not None else None
            master = kind.master_flavor if kind is not None else template.master_flavor if template is not None else None
            node = shapes.get(flavor or "")
            if node is None:
                continue
            labels = dict(kind.labels if kind is not None else template.labels if template is not None else {})
            masters = kind.master_count if kind is not None else 1
            with self._database.single() as uow:
                known = uow.series.expected_s(scope.region, "create", template.uuid) if template is not None else None
                general = uow.series.expected_of_kind(scope.region, "create")
            recorded = known or general
            wait = Wait(*recorded) if recorded else _USUAL[Way.CREATE]
            offers[choice.name] = TypeOffer(choice.name, node, shapes.get(master or ""), masters, DEFAULT_GROUP, labels, wait)
        found = list(offers.values())
        self._offers[actor.project_id] = (time.monotonic() + _REMEMBERED_S, catalog, found)
        return found

    # -- answering ---------------------------------------------------------------------------------------------------------------

    def _result(self, job: Job, asked: _Asked, outcomes: Sequence[_Outcome], done: Sequence[dict[str, Any]]) -> dict[str, Any]:
        shown = [*done, *(result_of(one, lease_s=asked.lease_s) for one in outcomes)]
        if job.params["many"]:
            return {"results": shown, "currency": "USD"}
        return shown[0]

    def _recall(self, uow: UnitOfWork, actor: Actor, idempotency: Idempotency | None) -> AcceptedMatch | None:
        known = uow.accept.recall(actor.project_id, idempotency.key) if idempotency else None
        if known is None or idempotency is None:
            return None
        if known[0] != idempotency.fingerprint:
            msg = f"Idempotency-Key {idempotency.key!r} was used before with another request."
            raise IdempotencyMismatch(msg, hint="Use a new key for a new request.")
        job = uow.jobs.get(known[1], actor.project_id)
        if job is None:
            msg = f"The job of Idempotency-Key {idempotency.key!r} is past its keeping time."
            raise IdempotencyMismatch(msg, hint="Use a new key.")
        return AcceptedMatch(job, replayed=True)


def _key_in_use(idempotency: Idempotency) -> Conflict:
    msg = f"A request with Idempotency-Key {idempotency.key!r} is under way."
    return Conflict(msg, reason="IDEMPOTENCY_KEY_IN_USE", hint="Repeat the request.")


def _several(job: Job) -> bool:
    """Whether the answer needs the best way of each workload alone."""
    return len(job.params["workloads"]) > 1


class _Outcome:
    """One workload's match, and what is held for it."""

    def __init__(self, work: Workload, matched: Matched) -> None:
        self.work = work
        self.matched = matched
        self.placements: list[Placement] = []
        self.free: dict[str, float] | None = None  #: in the best way's cluster, before anything of this is held

    @property
    def best(self) -> Candidate | None:
        """The way that is taken."""
        return self.matched.best

    def seat(self, fleet: ProjectFleet, scope: Scope) -> None:
        """Hold the best way's seats: those on nodes that are there at once."""
        best = self.best
        if best is None:
            return
        request = uuid4()
        for replica, seat in enumerate(best.seats):
            placement = _placement(self.work, self.matched.shape, best, seat, replica, request, scope)
            self.placements.append(placement)
            if best.way is Way.USE:
                fleet.seat(placement, seat.slot)

    def unseat(self, fleet: ProjectFleet) -> None:
        """Take it back."""
        for placement in self.placements:
            fleet.unseat(placement.id)


def _shown(result: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = result.get("results", [result])
    return found


def _begin_of(job: Job, number: int, outcome: _Outcome) -> dict[str, Any] | None:
    """What the cloud must be asked for; None where the best way needs nothing of it, or there is none."""
    best = outcome.best
    if best is None or best.way is Way.USE:
        return None
    if best.type is not None:
        fields: dict[str, Any] = {
            "name": f"{slug(outcome.work.name)}-{job.id.hex[:8]}-{number}",
            "cluster_template_id": best.type.name,
            "node_count": best.target_nodes or 1,
            "master_count": best.type.masters,
            "labels": {"workload_type": outcome.work.type},
        }
        return {"way": best.way.value, "cluster_id": None, "fields": fields}
    fields = {"node_count": best.target_nodes}
    if best.group not in {None, DEFAULT_GROUP}:
        fields["node_group"] = best.group
    return {"way": best.way.value, "cluster_id": str(best.member.id) if best.member else None, "fields": fields}


def _remembered(placement: Placement) -> dict[str, Any]:
    values = {f.name: getattr(placement, f.name) for f in dataclass_fields(placement)}
    return {name: value for name, value in values.items() if name not in _WRITTEN}


def _recalled(document: Mapping[str, Any], cluster_id: UUID) -> Placement:
    values = dict(document)
    values["id"], values["request_id"], values["cluster_id"] = UUID(values["id"]), UUID(values["request_id"]), cluster_id
    values["devices"] = tuple(values["devices"])
    values["models"] = tuple(values["models"]) if values["models"] else None
    values["isolation"] = Isolation(values["isolation"])
    return Placement(created_at=_EPOCH, **values)


def slug(name: str) -> str:
    """A name that Magnum takes, as near to this one as may be."""
    kept = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in name).strip("-")[:40]
    return kept if kept and kept[0].isalpha() else f"w-{kept}".rstrip("-")


def _placement(work: Workload, shape: Shape, best: Candidate, seat: Seat, replica: int, request: UUID, scope: Scope) -> Placement:
    each = max(1, work.replicas)
    return Placement(
        id=uuid4(),
        request_id=request,
        project_id=scope.project_id,
        region=scope.region,
        cluster_id=best.member.id if best.member is not None else UUID(int=0),
        node_group=seat.group,
        node=seat.node,
        workload=work.name,
        workload_type=work.type,
        replica=replica,
        cpu_milli=work.cpu_milli,
        memory_mib=work.memory_mib,
        accelerators=work.accelerators,
        share_milli=work.share_milli,
        accelerator=best.accelerator,
        # As the request's kind, models and memory were understood: wherever it is moved, that still holds.
        models=tuple(sorted(shape.models)) if shape.models is not None else None,
        devices=seat.devices,
        labels=dict(work.labels),
        isolation=work.isolation,
        priority=work.priority,
        movable=work.movable,
        watts=round(best.watts / each, 3),
        cost_per_hour=round(best.cost_per_hour / each, 6),
        created_at=_EPOCH,
    )


def result_of(outcome: _Outcome, *, lease_s: float | None) -> dict[str, Any]:
    """The answer for one workload: in the form that the module always had, and in full."""
    matched, best = outcome.matched, outcome.best
    answer: dict[str, Any] = {
        "action": best.way.value if best else None,
        "workload": outcome.work.name,
        "cluster": None,
        "alternatives": [],
        "recommended_template": None,
        "estimated_cost": None,
        "estimated_creation_time": None,
    }
    if best is not None:
        if best.member is not None:
            answer["cluster"] = {
                "id": str(best.member.id),
                "name": best.member.name,
                "status": best.member.phase.value,
                "available_resources": outcome.free,
            }
        if best.type is not None:
            answer["recommended_template"] = {
                "name": best.type.name,
                "node_count": best.target_nodes,
                "master_count": best.type.masters,
                "flavor": best.type.node.flavor,
                "estimated_cost_per_hour": round(best.added_cost_per_hour, 6),
            }
            answer["estimated_cost"] = round(best.added_cost_per_hour, 6)
            answer["estimated_creation_time"] = round(best.wait.p50_s, 1)
        first = best.member.id if best.member is not None else None
        others = [one for one in matched.candidates[1:] if one.member is not None and one.member.id != first]
        answer["alternatives"] = [
            {"id": str(one.member.id), "name": one.member.name, "suitability_score": _suitability(best, one)}
            for one in others[:_ALTERNATIVES]
            if one.member is not None
        ]
    answer["candidates"] = [candidate_json(one) for one in matched.candidates]
    answer["rejected"] = [
        {"way": one.way.value, "id": one.id, "name": one.name, "code": one.code, "detail": one.detail} for one in matched.rejected
    ]
    answer["rejections"] = {code: count for code, count in sorted(matched.counts.items()) if count}
    answer["placements"] = [
        {
            "id": str(one.id),
            "cluster_id": str(one.cluster_id) if one.cluster_id.int else None,
            "node_group": one.node_group,
            "node": one.node,
            "replica": one.replica,
            "devices": list(one.devices),
        }
        for one in outcome.placements
    ]
    answer["lease_seconds"] = lease_s
    return answer


def candidate_json(one: Candidate) -> dict[str, Any]:
    """A way, for answers."""
    return {
        "way": one.way.value,
        "cluster_id": str(one.member.id) if one.member else None,
        "name": one.member.name if one.member else one.type.name if one.type else "",
        "node_group": one.group,
        "nodes": one.nodes,
        "target_nodes": one.target_nodes,
        "accelerator": one.accelerator,
        "price": round(one.price, 6),
        "cost_per_hour": round(one.cost_per_hour, 6),
        "added_cost_per_hour": round(one.added_cost_per_hour, 6),
        "watts": round(one.watts, 1),
        "added_watts": round(one.added_watts, 1),
        "wait_seconds": {"p50": round(one.wait.p50_s, 1), "p90": round(one.wait.p90_s, 1), "runs": one.wait.runs},
        "fragmentation": round(one.fragmentation, 4),
        "preferred": one.preferred,
        "reasons": list(one.reasons),
    }


def _suitability(best: Candidate, one: Candidate) -> float:
    """1 for a way as good as the best, less the dearer it is."""
    return round((best.cost_per_hour + 1e-9) / (best.cost_per_hour + 1e-9 + max(0.0, one.price - best.price)), 4)
