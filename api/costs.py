"""/clusters/{id}/costs and /costs."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from flask import Response, request

from api import inputs
from api.inputs import Param, Query
from api.kit import Kit
from api.render import answer, rfc3339
from api.schemas import costs as schemas
from api.spec import Blueprint, Outcome, operation
from shared.domain.costing import GRANULARITIES, GROUPS
from shared.services.costs import as_csv
from shared.services.savings import GROUPS as SAVINGS_GROUPS

_CSV: Final = "text/csv"
_AS_CSV: Final = {200: {_CSV: {"schema": {"type": "string"}}}}
_GRANULARITY: Final = Param(
    "granularity",
    inputs.one_of({name: name for name in GRANULARITIES}),
    {"type": "string", "enum": list(GRANULARITIES)},
    "The spans that costs are told by: hours, days or months of UTC, or the window as a whole.",
    "total",
)


def _names(text: str, *, known: Sequence[str]) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(known):
        msg = f"Must be one or more of {', '.join(known)}, with commas between them."
        raise ValueError(msg)
    return list(dict.fromkeys(names))


def _pattern(known: Sequence[str]) -> str:
    return f"^({'|'.join(known)})(,({'|'.join(known)}))*$"


COSTS: Final = Query((inputs.START, inputs.END, _GRANULARITY))
ALL_COSTS: Final = Query(
    (
        Param(
            "group_by",
            partial(_names, known=GROUPS),
            {"type": "string", "pattern": _pattern(GROUPS), "examples": ["cluster", "cluster,workload"]},
            "What to tell costs by: one or more names, with commas between them. `type` is the cluster's template;"
            " `cluster` without `group_by`.",
        ),
        inputs.START,
        inputs.END,
        _GRANULARITY,
    )
)


SAVINGS: Final = Query(
    (
        Param(
            "group_by",
            partial(_names, known=SAVINGS_GROUPS),
            {"type": "string", "pattern": _pattern(SAVINGS_GROUPS), "examples": ["cause", "kind,cluster"]},
            "What to tell savings by: one or more names, with commas between them; each change by itself without it.",
        ),
        inputs.START,
        inputs.END,
    )
)


class CostViews:
    """The operations on costs."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("costs", __name__, description="What clusters cost.")
        made.add_url_rule("/clusters/<cluster_id>/costs", view_func=self.get_cluster_costs, methods=["GET"])
        made.add_url_rule("/costs", view_func=self.get_costs, methods=["GET"])
        made.add_url_rule("/savings", view_func=self.get_savings, methods=["GET"])
        return made

    @operation(
        "Show a cluster's costs",
        {200: Outcome("Cost and energy over the window.", schemas.ClusterCosts)},
        refusals=(404,),
        query=COSTS,
        more=_AS_CSV,
    )
    def get_cluster_costs(self, cluster_id: str) -> Response:
        """By default since the cluster was made. Quantities are stored; prices are applied when asked, so a change of rate cards
        re-rates the past. With `Accept: text/csv`, the spans of `series`.
        """
        actor = self._kit.guard.actor("clusters:costs", cluster=cluster_id)
        asked = COSTS.read()
        found = self._kit.container.costs.of_cluster(
            actor, cluster_id, start=asked["start"], end=asked["end"], granularity=asked["granularity"]
        )
        if _wants_csv():
            return _csv(found["series"])
        rest = {key: value for key, value in found.items() if key != "cluster_id"}
        return answer({"cluster_id": found["cluster_id"], "costs": rest, "timestamp": self._now()})

    @operation(
        "Show the project's costs",
        {200: Outcome("Cost and energy over the window, by group.", schemas.ProjectCosts)},
        query=ALL_COSTS,
        more=_AS_CSV,
    )
    def get_costs(self) -> Response:
        """By default since the month began. With `Accept: text/csv`, the rows. Clusters that are no more are in it, too."""
        actor = self._kit.guard.actor("costs:list")
        asked = ALL_COSTS.read()
        found = self._kit.container.costs.of_project(
            actor,
            group_by=asked["group_by"] or ["cluster"],
            start=asked["start"],
            end=asked["end"],
            granularity=asked["granularity"],
        )
        return _csv(found["rows"]) if _wants_csv() else answer(found | {"timestamp": self._now()})

    @operation(
        "Show what was saved",
        {200: Outcome("What changes that took nodes away were to save, and did.", schemas.Savings)},
        query=SAVINGS,
        more=_AS_CSV,
    )
    def get_savings(self) -> Response:
        """Of each scale-in, hibernation, removed node group and deletion, whoever asked for it, over the window (by default the last 30 days).
        `predicted`: had it taken effect at once and lasted; `realised`: what ran before, less the most that has run since it took
        effect. Credited for 30 days. With `Accept: text/csv`, the rows.
        """
        actor = self._kit.guard.actor("costs:list")
        asked = SAVINGS.read()
        found = self._kit.container.savings.ledger(actor, group_by=asked["group_by"] or [], start=asked["start"], end=asked["end"])
        if _wants_csv():
            return _csv(found["rows"], "savings", schemas.SAVINGS_COLUMNS)
        return answer(found | {"timestamp": self._now()})

    def _now(self) -> str | None:
        return rfc3339(self._kit.container.clock.now())


def _wants_csv() -> bool:
    return request.accept_mimetypes.best_match(["application/json", _CSV]) == _CSV


def _csv(rows: Sequence[Mapping[str, Any]], name: str = "costs", columns: Sequence[str] = ()) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', "Vary": "Accept"}
    return Response(
        as_csv(rows, rfc3339, columns) if columns else as_csv(rows, rfc3339), content_type=f"{_CSV}; charset=utf-8", headers=headers
    )
