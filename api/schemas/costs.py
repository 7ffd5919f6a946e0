"""Costs."""

from marshmallow import fields

from api.schemas.fields import Strict
from shared.domain.costing import GROUPS
from shared.domain.savings import CAUSES as SAVING_CAUSES
from shared.domain.savings import KINDS as SAVING_KINDS
from shared.services.savings import GROUPS as SAVING_GROUPS

_WORDS = {
    "allocated": "Of workers, what placements hold of their scarcest resource.",
    "idle": "Of workers, the rest.",
    "unattributed": "Of workers before their cluster's first placement: what ran there is not known.",
    "control_plane": "Masters.",
    "storage": "Volumes.",
    "network": "Floating addresses.",
    "electricity": "Of all nodes, where a rate card has a tariff; otherwise prices of nodes include it.",
}


def _money(words: str) -> fields.String:
    return fields.String(required=True, metadata={"description": f"{words} A decimal amount."})


class Parts(Strict):
    """Money of one currency, in parts whose sum is the total to the last place."""

    currency = fields.String(required=True)
    allocated = _money(_WORDS["allocated"])
    idle = _money(_WORDS["idle"])
    unattributed = _money(_WORDS["unattributed"])
    control_plane = _money(_WORDS["control_plane"])
    storage = _money(_WORDS["storage"])
    network = _money(_WORDS["network"])
    electricity = _money(_WORDS["electricity"])
    total = _money("The sum of the parts.")


class Quantities(Parts):
    """Money and what it was for. Of several currencies the quantities stand with the first."""

    node_seconds = fields.Float(required=True, allow_none=True)
    accelerator_seconds = fields.Float(required=True, allow_none=True)
    storage_gb_hours = fields.Float(required=True, allow_none=True)
    address_hours = fields.Float(required=True, allow_none=True)
    energy_kwh = fields.Float(required=True, allow_none=True, metadata={"description": "Modelled, times PUE."})
    carbon_g = fields.Float(required=True, allow_none=True, metadata={"description": "Null where no rate card has an intensity."})


class CostSpan(Quantities):
    """A span of the window."""

    start = fields.DateTime(required=True)
    end = fields.DateTime(required=True)


class CostItem(Strict):
    """A group of nodes of one flavor."""

    role = fields.String(required=True)
    node_group = fields.String(required=True)
    flavor = fields.String(required=True, allow_none=True)
    node_seconds = fields.Float(required=True)
    accelerator_seconds = fields.Float(required=True)
    cost = _money("All parts, in `currency`.")
    currency = fields.String(required=True)
    allocated = _money(_WORDS["allocated"])
    idle = _money(_WORDS["idle"])
    unattributed = _money(_WORDS["unattributed"])
    control_plane = _money(_WORDS["control_plane"])
    storage = _money(_WORDS["storage"])
    network = _money(_WORDS["network"])
    electricity = _money(_WORDS["electricity"])
    energy_kwh = fields.Float(required=True)
    price_per_node_hour = fields.Float(
        required=True, metadata={"description": "At the window's end, without electricity of its own."}
    )
    watts_per_node = fields.Float(required=True)
    rate = fields.String(required=True, metadata={"description": "`default`: the flavor is not known."})
    price_sources = fields.List(fields.String(), required=True, metadata={"description": "Ids of rate cards, or `default`."})


class Sum(Strict):
    """Money of one currency."""

    currency = fields.String(required=True)
    total = _money("")


class Forecast(Strict):
    """What the month comes to if all that runs now runs on."""

    start = fields.DateTime(required=True)
    end = fields.DateTime(required=True)
    total_cost = _money("In the first currency.")
    totals = fields.List(fields.Nested(Sum), required=True)


class _Costs(Strict):
    start = fields.DateTime(required=True)
    end = fields.DateTime(required=True)
    granularity = fields.String(required=True)
    currency = fields.String(required=True, metadata={"description": "Of the foremost rate card; USD without one."})
    total_cost = _money("In `currency`; `totals` has the others, as nothing is converted.")
    totals = fields.List(fields.Nested(Parts), required=True)
    energy_kwh = fields.Float(required=True)
    source = fields.String(required=True, metadata={"description": "Of the energy."})
    forecast = fields.Nested(Forecast, required=True)


class CostsOfCluster(_Costs):
    """What one cluster cost."""

    cost_per_hour = fields.Float(required=True, metadata={"description": "Now; 0 where the window does not reach it."})
    items = fields.List(fields.Nested(CostItem), required=True)
    series = fields.List(fields.Nested(CostSpan), required=True)


class ClusterCosts(Strict):
    """What a cluster cost, in money and energy."""

    cluster_id = fields.UUID(required=True)
    costs = fields.Nested(CostsOfCluster, required=True)
    timestamp = fields.DateTime(required=True)


class CostRow(CostSpan):
    """What one group cost in one span. Only the names that were grouped by are there."""

    project_id = fields.String()
    cluster_id = fields.UUID()
    cluster = fields.String()
    type = fields.String()
    workload = fields.String(allow_none=True, metadata={"description": "Null: what no workload holds."})


class ProjectCosts(_Costs):
    """What the project's clusters cost."""

    group_by = fields.List(fields.String(metadata={"enum": list(GROUPS)}), required=True)
    rows = fields.List(fields.Nested(CostRow), required=True)
    timestamp = fields.DateTime(required=True)


#: Of the table of single changes.
SAVINGS_COLUMNS = (
    "job_id",
    "at",
    "cluster_id",
    "cluster",
    "kind",
    "cause",
    "currency",
    "predicted",
    "realised",
    "predicted_kwh",
    "realised_kwh",
)


class SavingsSum(Strict):
    """In one currency; nothing is converted. Energy stands with the main currency, by the model of nodes' draw."""

    currency = fields.String(required=True)
    predicted = _money("Had each taken effect at once and lasted.")
    realised = _money("What ran before, less the most that has run since.")
    predicted_kwh = fields.Float(required=True)
    realised_kwh = fields.Float(required=True)


class SavingsRow(SavingsSum):
    """One change, or one group of them: only the names that were grouped by are there."""

    job_id = fields.UUID()
    at = fields.DateTime()
    cluster_id = fields.UUID()
    cluster = fields.String()
    kind = fields.String(metadata={"enum": list(SAVING_KINDS)})
    cause = fields.String(metadata={"enum": list(SAVING_CAUSES)})


class Savings(Strict):
    """What changes that took nodes away were to save, and did."""

    start = fields.DateTime(required=True)
    end = fields.DateTime(required=True)
    group_by = fields.List(fields.String(metadata={"enum": list(SAVING_GROUPS)}), required=True)
    currency = fields.String(required=True)
    totals = fields.List(fields.Nested(SavingsSum), required=True)
    rows = fields.List(fields.Nested(SavingsRow), required=True, metadata={"description": "The latest 1,000 changes."})
    timestamp = fields.DateTime(required=True)
