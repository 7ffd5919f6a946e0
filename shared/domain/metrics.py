"""Which figures of a cluster there are over time."""

from typing import Final

#: name -> what it says of a step. Averages are over the samples that have the figure; NULL where none has.
FIELDS: Final = {
    "status": "Magnum's status at the step's last sample.",
    "health_status": "Magnum's health status at the step's last sample.",
    "node_count": "Workers, on average.",
    "master_count": "Masters, on average.",
    "power_consumption_watts": "Watts, on average.",
    "power_watts_min": "The lowest sample of watts.",
    "power_watts_max": "The highest sample of watts.",
    "energy_kwh": "The sum of each sample's watts times the time that it stands for.",
    "cost_per_hour": "Cost per hour, on average.",
    "cpu_usage": "Percent of the nodes' processors, on average.",
    "cpu_usage_peak": "Percent of the busiest node's processors, at its highest.",
    "gpu_usage": "Percent of the accelerators, on average.",
    "gpu_usage_peak": "Percent of the busiest accelerator, at its highest.",
    "gpu_memory_used_gb": "Gigabytes in use of an accelerator's own memory, on average.",
    "gpu_temperature_celsius": "Degrees Celsius of the hottest accelerator, at its highest.",
    "running_pods": "Pods that are not the system's, on average.",
    "source": "measured, mixed or modelled: the first in the alphabet of the samples' sources.",
    "samples": "How many samples the step holds.",
}
