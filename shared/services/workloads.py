"""From a request's fields to a workload, with all findings at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from shared.domain.workloads import PRIORITIES, Isolation, Workload
from shared.errors import FieldError

if TYPE_CHECKING:
    from shared.domain.accelerators import Catalogue

_OLD: Final = ("gpu_required", "gpu_count")


def read_workload(
    fields: Mapping[str, Any], catalogue: Catalogue, *, now: datetime, where: str = ""
) -> tuple[Workload, list[FieldError]]:
    """The workload, and what is wrong with it besides the types of its fields. ``where`` comes before the fields' names."""
    wrong: list[FieldError] = []
    count, share, kind, models, memory = _accelerators(fields, catalogue, wrong, where)
    if not (fields.get("cpu_cores") or fields.get("memory_gb") or count):
        wrong.append(FieldError(f"{where}cpu_cores", "something", "A workload asks for cores, memory or accelerators."))
    deadline = fields.get("deadline")
    if deadline is not None and deadline <= now:
        wrong.append(FieldError(f"{where}deadline", "future", "The deadline has passed."))
    both = sorted(set(fields.get("preferred_clusters") or ()) & set(fields.get("forbidden_clusters") or ()))
    if both:
        words = f"{', '.join(both)} can't be preferred and forbidden."
        wrong.append(FieldError(f"{where}forbidden_clusters", "conflict", words))
    priority = fields.get("priority", "normal")
    workload = Workload(
        name=fields.get("name") or fields.get("type") or "workload",
        type=fields.get("type") or "general",
        replicas=fields.get("replicas", 1),
        cpu_milli=round(fields.get("cpu_cores", 0) * 1000),
        memory_mib=round(fields.get("memory_gb", 0) * 1024),
        accelerators=count,
        share_milli=share,
        kind=kind,
        models=models,
        accelerator_memory_gb=memory,
        max_watts=fields.get("power_budget"),
        max_cost_per_hour=fields.get("max_cost_per_hour"),
        deadline=deadline,
        duration_s=fields.get("duration_seconds"),
        preferred=frozenset(fields.get("preferred_clusters") or ()),
        forbidden=frozenset(fields.get("forbidden_clusters") or ()),
        labels=dict(fields.get("labels") or {}),
        isolation=Isolation(fields.get("isolation", Isolation.SHARED.value)),
        priority=PRIORITIES.get(priority, 100),
        movable=fields.get("movable", False),
    )
    return workload, wrong


def _accelerators(
    fields: Mapping[str, Any], catalogue: Catalogue, wrong: list[FieldError], where: str
) -> tuple[int, int, str | None, tuple[str, ...], float | None]:
    """How many per pod, the share in thousandths, kind, models (ids of the catalogue) and memory."""
    fuller = fields.get("accelerator")
    if fuller is None:
        count = fields.get("gpu_count")
        required = fields.get("gpu_required")
        if required is False and count:
            wrong.append(FieldError(f"{where}gpu_count", "conflict", "gpu_required is false, so gpu_count must be 0 or left out."))
        if required and count == 0:
            wrong.append(FieldError(f"{where}gpu_count", "conflict", "gpu_required is true, so gpu_count must be at least 1."))
        count = 1 if count is None and required else count or 0
        return count, 1000, "gpu" if count else None, (), None
    wrong += [
        FieldError(f"{where}{name}", "conflict", f"{name} and accelerator exclude each other.") for name in _OLD if name in fields
    ]
    models = []
    for index, name in enumerate(fuller.get("models") or ()):
        row = catalogue.find(name)
        if row is None:
            known = ", ".join(catalogue.rows)
            words = f"The catalogue has no accelerator {name!r}. It has: {known}."
            wrong.append(FieldError(f"{where}accelerator.models.{index}", "exists", words))
        else:
            models.append(row.id)
            if fuller.get("kind") and row.kind != fuller["kind"]:
                words = f"{row.id} is of kind {row.kind}."
                wrong.append(FieldError(f"{where}accelerator.models.{index}", "kind", words))
    count = fuller.get("count", 1)
    share = round(fuller.get("share", 1) * 1000)
    if share < 1000 and count != 1:  # noqa: PLR2004 - a whole device
        wrong.append(FieldError(f"{where}accelerator.share", "conflict", "Only of one accelerator a share can be asked for."))
        share = 1000
    return count, share, fuller.get("kind"), tuple(models), fuller.get("memory_gb")


def as_fields(work: Workload) -> dict[str, Any]:
    """What a job remembers of a workload: :func:`from_fields` makes it again."""
    return {
        "name": work.name,
        "type": work.type,
        "replicas": work.replicas,
        "cpu_milli": work.cpu_milli,
        "memory_mib": work.memory_mib,
        "accelerators": work.accelerators,
        "share_milli": work.share_milli,
        "kind": work.kind,
        "models": list(work.models),
        "accelerator_memory_gb": work.accelerator_memory_gb,
        "max_watts": work.max_watts,
        "max_cost_per_hour": work.max_cost_per_hour,
        "deadline": work.deadline.isoformat() if work.deadline else None,
        "duration_s": work.duration_s,
        "preferred": sorted(work.preferred),
        "forbidden": sorted(work.forbidden),
        "labels": work.labels,
        "isolation": work.isolation.value,
        "priority": work.priority,
        "movable": work.movable,
    }


def from_fields(document: Mapping[str, Any]) -> Workload:
    """The workload that a job remembers."""
    values = dict(document)
    values["models"] = tuple(values["models"])
    values["preferred"], values["forbidden"] = frozenset(values["preferred"]), frozenset(values["forbidden"])
    values["isolation"] = Isolation(values["isolation"])
    values["deadline"] = datetime.fromisoformat(values["deadline"]) if values["deadline"] else None
    return Workload(**values)
