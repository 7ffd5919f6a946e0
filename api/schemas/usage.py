"""Metrics of a project by day."""

from marshmallow import fields

from api.schemas.fields import Strict


def _figure(words: str) -> fields.Float:
    return fields.Float(required=True, allow_none=True, metadata={"description": words})


class DayOfUse(Strict):
    """A day of UTC. What no sample has is null."""

    project_id = fields.String(required=True)
    day = fields.DateTime(required=True, metadata={"description": "Its beginning."})
    clusters = fields.Integer(required=True, metadata={"description": "Clusters with samples on this day."})
    samples = fields.Integer(required=True)
    node_count = _figure("Workers of one cluster, on average.")
    power_consumption_watts = _figure("Watts of one cluster, on average.")
    power_watts_min = _figure("The lowest sample of one cluster.")
    power_watts_max = _figure("The highest sample of one cluster.")
    energy_kwh = _figure("Energy of all clusters: each sample's watts times the time that it stands for.")
    cost_per_hour = _figure("Cost per hour of one cluster, on average.")
    cpu_usage = _figure("Percent of the nodes' processors, on average.")
    cpu_usage_peak = _figure("Percent of the busiest node's processors, at its highest.")
    gpu_usage = _figure("Percent of the accelerators, on average.")
    gpu_usage_peak = _figure("Percent of the busiest accelerator, at its highest.")
    gpu_memory_used_gb = _figure("Gigabytes in use of an accelerator's own memory, on average.")
    gpu_temperature_celsius = _figure("Degrees Celsius of the hottest accelerator, at its highest.")
    running_pods = _figure("Pods of one cluster that are not the system's, on average.")


class ProjectUsage(Strict):
    """What a project's clusters ran and drew."""

    project_id = fields.String(required=True)
    start = fields.DateTime(required=True)
    end = fields.DateTime(required=True)
    days = fields.List(fields.Nested(DayOfUse), required=True)
    timestamp = fields.DateTime(required=True)
