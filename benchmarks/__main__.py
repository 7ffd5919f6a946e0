"""``make bench``: everything, one after the other, and docs/benchmarks.md. One alone: ``python -m benchmarks accept``."""

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import accept, allocation, consolidation, converge, matching, power, replay, replay_live, series, start
from deployment.local.environment import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
RAW = ROOT / "docs" / "benchmarks.json"
_ALL = {
    "accept": accept.measure,
    "converge": converge.measure,
    "start": start.measure,
    "matching": matching.measure,
    "consolidation": consolidation.measure,
    "series": series.measure,
}
_CLASSES = ("share", "1 GPU", "2 GPU", "4 GPU", "8 GPU", "0 GPU")
_TRACES = {
    "allocation": allocation.measure,
    "power": power.measure,
    "replay": replay.measure,
    "replay_live": replay_live.measure,
}  #: those that need a trace's folder: `--traces DIR`


def main(words: list[str]) -> int:
    """Run those that are named, or all that need no trace; those that are not run keep their last figures."""
    folder = ""
    if "--traces" in words:
        place = words.index("--traces")
        folder = "".join(words[place + 1 : place + 2])
        words = words[:place] + words[place + 2 :]
        if not Path(folder).is_dir() or not folder:
            sys.stderr.write(f"--traces: there is no folder {folder!r}.\n")
            return 2
    names = words or ([] if folder else list(_ALL))
    if any(name in _TRACES for name in names) and not folder:
        sys.stderr.write(f"{', '.join(_TRACES)} need the openb trace: --traces DIR.\n")
        return 2
    if folder and not words:
        names = list(_TRACES)
    unknown = sorted(set(names) - set(_ALL) - set(_TRACES))
    if unknown:
        sys.stderr.write(f"There is no benchmark {', '.join(unknown)}; there are {', '.join((*_ALL, *_TRACES))}.\n")
        return 2
    known: dict[str, Any] = json.loads(RAW.read_text(encoding="utf-8")) if RAW.exists() else {}
    for name in names:
        sys.stderr.write(f"{name} ...\n")
        figures = _ALL[name]() if name in _ALL else _TRACES[name](folder)
        known[name] = {"figures": figures, "machine": _machine(), "at": time.strftime("%Y-%m-%d", time.gmtime())}
        RAW.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(_page(known), encoding="utf-8")
    sys.stdout.write(PAGE.read_text(encoding="utf-8"))
    return 0


def _machine() -> dict[str, Any]:
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.processor()
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def _page(known: dict[str, Any]) -> str:
    parts = [
        "# Benchmarks",
        "",
        "Written by `make bench`; the raw figures are in `benchmarks.json`. Each figure stands beside a baseline of the same run.",
    ]
    for name, section in (
        ("accept", _accept),
        ("converge", _converge),
        ("start", _start),
        ("matching", _matching),
        ("allocation", _allocation),
        ("power", _power),
        ("replay", _replay),
        ("replay_live", _replay_live),
        ("consolidation", _consolidation),
        ("series", _series),
    ):
        if name in known:
            machine = known[name]["machine"]
            where = (
                f"{known[name]['at']}, {machine['cores']} cores ({machine['processor']}), {machine['memory_gb']} GB,"
                f" {machine['system']}, Python {machine['python']}; load before the run {machine['load_before']}"
            )
            parts += ["", *section(known[name]["figures"]), "", f"Measured {where}."]
    return "\n".join(parts) + "\n"


def _allocation(figures: dict[str, Any]) -> list[str]:
    lines = [
        "## Allocation",
        "",
        "Share of all GPU capacity that is allocated when tasks for 130 % of it have come and nothing has left (the published experiment on",
        f"the openb trace; mean of {figures['seeds']} seeds). All four are implemented here and run on the same arrivals; ours learns the mix of tasks",
        "from the arrivals alone. In brackets what the paper's authors published.",
        "",
        "| list | Random | BestFit | FGD | ours | first drop at load: FGD | ours |",
        "|---|---|---|---|---|---|---|",
    ]
    drops = [
        "",
        "Tasks dropped, by class, FGD / ours:",
        "",
        "| list | " + " | ".join(_CLASSES) + " |",
        "|---" * (len(_CLASSES) + 1) + "|",
    ]
    for name in allocation.LISTS:
        found = figures[name]
        said = allocation.PUBLISHED[name]
        cells = [f"{found[policy]['allocated']:.1f} ({said[policy]})" for policy in ("random", "bestfit", "fgd")]
        firsts = [f"{found[policy]['first_drop']:.3f}" for policy in ("fgd", "ours")]
        lines.append(f"| {name} | {' | '.join(cells)} | **{found['ours']['allocated']:.2f}** | {' | '.join(firsts)} |")
        pairs = [f"{found['fgd']['dropped'].get(kind, 0):g} / {found['ours']['dropped'].get(kind, 0):g}" for kind in _CLASSES]
        drops.append(f"| {name} | {' | '.join(pairs)} |")
    return [*lines, *drops]


def _consolidation(figures: dict[str, Any]) -> list[str]:
    return [
        "## Consolidation",
        "",
        "Generated fleets (fixed seed): money per hour, watts and moves weighed in, of the present, of first-fit decreasing (whole clusters",
        "are emptied into the others, smallest first), of the plan, and the bound that is proven to be below every plan.",
        "",
        "| clusters | pods | tenancies | present | first-fit decreasing | plan | bound | gap % | proven optimal | s | moves | deleted |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {row['clusters']} | {row['pods']:,} | {row['tenancies']} | {row['present']:.2f} | {row['first_fit_decreasing']:.2f} |"
            f" **{row['plan']:.2f}** | {row['bound']:.2f} | {row['gap_percent']:.2f} | {'yes' if row['optimal'] else 'no'} |"
            f" {row['seconds']} | {row['moves']} | {row['deleted']} |"
            for row in figures["fleets"]
        ),
    ]


def _series(figures: dict[str, Any]) -> list[str]:
    return [
        "## Series",
        "",
        "Samples of clusters into `cluster_metrics` through our code, against psql's `COPY` of the same rows into the same table in the same run; a",
        "sweep that samples every cluster; and questions as the series of 1,000 clusters at one-minute steps grows: the last month (30 days) by",
        "project and day from the roll-ups, beside the same from the samples, and a cluster's last day by minutes, all its figures.",
        "",
        "Memory that the servers keep pages in (`shared_buffers`): "
        + ", ".join(f"{name} {found['shared_buffers']}" for name, found in figures["servers"].items() if "shared_buffers" in found)
        + ".",
        "",
        "| | rows/s | psql COPY rows/s | share | batches with a sample twice, rows/s | sweep of 10,000 clusters, s (worst) |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {found['ingest']['ours_per_s']:,} | {found['ingest']['copy_per_s']:,} | **{found['ingest']['share']:.0%}** |"
            f" {found['ingest']['repeated_per_s']:,} | {found['sweep']['p50_s']} ({found['sweep']['worst_s']}) |"
            for name, found in figures["servers"].items()
        ),
        "",
        "| | samples | month by project and day p50 ms | p99 ms | from samples ms | last day p50 ms | p99 ms | p99 ms, first asked |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {row['rows']:,} | {row['by_day_p50_ms']} | **{row['by_day_p99_ms']}** | {row['from_samples_ms']:,} |"
            f" {row['last_day_p50_ms']} | **{row['last_day_p99_ms']}** | {row['last_day_cold_p99_ms']} |"
            for name, found in figures["servers"].items()
            for row in found["growth"]
        ),
        "",
        "![Milliseconds of a question as the series grows](series.svg)",
        *(["", figures["note"]] if "note" in figures else []),  # how these figures came about, where not in one run
    ]


def _matching(figures: dict[str, Any]) -> list[str]:
    api = figures["api"]
    return [
        "## Matching",
        "",
        "One match over a project's fleet, all ways ranked with their reasons (300 workloads of many shapes, a quarter of four pods); and 1,000",
        "matches after one another, each with what those before it left. Beside it a plain loop over the nodes.",
        "",
        "| nodes | p50 ms | p99 ms | plain loop p50 ms | 1,000 matches s |",
        "|---|---|---|---|---|",
        *(
            f"| {row['nodes']:,} | {row['p50_ms']} | {row['p99_ms']} | {row['loop_p50_ms']} | {row['thousand_s']} |"
            for row in figures["growth"]
        ),
        "",
        "![Milliseconds for one match as the fleet grows](matching.svg)",
        "",
        (
            f"Through the API among {api['clusters']:,} clusters of {api['nodes']:,} nodes, two clients, each match kept as a job: p50"
            f" {api['p50_ms']} ms, p99 {api['p99_ms']} ms, {api['per_s']} a second (an empty route: p50 {api['empty_p50_ms']} ms, p99"
            f" {api['empty_p99_ms']} ms). 1,000 workloads in one call: {api['thousand_s']} s."
        ),
    ]


def _power(figures: dict[str, Any]) -> list[str]:
    loads = [f"{load:.0%}" for load in figures["loads"]]
    lines = [
        "## Power",
        "",
        "Kilowatts drawn when tasks for a part of all GPU capacity have come (the trace and arrivals of the allocation experiment; mean of",
        f"{figures['seeds']} seeds); nodes without work are off. In brackets, how much less than FGD. The weight of a watt is",
        f"`PLACEMENT_WATT_WEIGHT`: {', '.join(f'{weight:g} for *{name}*' for name, weight in power.WEIGHTS.items())}. The bound is that of a linear",
        "programme that may divide tasks and nodes: nothing can draw less for what ours has placed. Watts are modelled, see",
        "`benchmarks/power.py`. On gpuspec33 BestFit drops tasks from 7 % load on; what has no place draws nothing.",
    ]
    for name in allocation.LISTS:
        found = figures[name]
        fgd = found["fgd"]["kilowatts"]
        lines += [
            "",
            f"| {name} | {' | '.join(f'kW at {load}' for load in loads)} | allocated at saturation |",
            "|---" * (len(loads) + 2) + "|",
        ]
        for policy, row in found.items():
            less = [f"{kw:.0f} ({100 * (kw / base - 1):+.1f} %)" for kw, base in zip(row["kilowatts"], fgd, strict=True)]
            share = f"{row['allocated']:.2f} %" if "allocated" in row else ""
            lines.append(f"| {policy} | {' | '.join(less)} | {share} |")
    return lines


def _replay(figures: dict[str, Any]) -> list[str]:
    names = {"never": "never shrinks", "threshold": "threshold", "ours": "ours", "bound": "bound of a perfect forecast"}
    lines = [
        "## Replay",
        "",
        f"The {figures['tasks']:,} tasks of the openb trace over the {figures['days']:g} days in which they come and go, on a clock of its own, through matching,",
        "scale policies, hibernation and cleanup with their defaults (nothing that runs is moved; nodes take 180 s, new clusters 300 s). Beside",
        "it, with the same matching, a fleet that never shrinks and a plain threshold policy; and for each figure by itself the least that a",
        "perfect forecast could do with nodes that can be divided. Money and watts are the model's. Nodes have 0 to 8 accelerators, so",
        "node-hours say less than the other figures.",
        "",
        "| | node-hours | accelerator-hours | kWh | cost | tasks that waited | mean wait s | clusters made / hibernated / deleted |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return lines + [_replayed(name, figures[key]) for key, name in names.items()]


def _replayed(name: str, row: dict[str, Any]) -> str:
    rest = (
        f"{row['waited']:.2%} | {row['wait_mean_s']} | {row['clusters_made']} / {row['hibernated']} / {row['deleted']}"
        if "waited" in row
        else " | | "
    )
    return f"| {name} | {row['node_hours']:,} | {row['device_hours']:,} | {row['kwh']:,} | {row['cost']:,} | {rest} |"


def _replay_live(figures: dict[str, Any]) -> list[str]:
    names = {
        "live": "**the whole system**",
        "ours": "its decisions alone, on a clock of their own",
        "never": "never shrinks, on that clock",
        "threshold": "threshold, on that clock",
        "bound": "bound of a perfect forecast",
    }
    return [
        "## Replay against the simulator",
        "",
        f"{figures['tasks']} tasks of a day of the same trace through API, workers and the simulated cloud over HTTP, {figures['pace']:g} times as fast as the",
        "day; beside it the same tasks by the decisions alone. Every GPU is taken for an A100, four to a node. The system's own delays are",
        f"not hastened: each second of them counts as {figures['pace']:g} here, so waits, and the nodes that wait with them, are the most that they can be.",
        "",
        "| | node-hours | accelerator-hours | kWh | cost | tasks that waited | mean wait s | clusters made / hibernated / deleted |",
        "|---|---|---|---|---|---|---|---|",
        *(_replayed(name, figures[key]) for key, name in names.items()),
    ]


def _accept(figures: dict[str, Any]) -> list[str]:
    return [
        "## Accept",
        "",
        "`POST /clusters` with a Keystone token, checked, and durably committed (PostgreSQL flushes to disk), against an empty Flask",
        "route under gunicorn with the same configuration. 64 keep-alive clients; load generator, PostgreSQL, simulator and both",
        f"servers share the machine. {figures['API_WORKERS']} gunicorn workers of {figures['API_THREADS']} threads. Median of the rounds.",
        "",
        "| | per second | p50 ms | p99 ms |",
        "|---|---|---|---|",
        f"| empty route | {figures['empty_per_s']:.0f} | {figures['empty_p50_ms']:.1f} | {figures['empty_p99_ms']:.1f} |",
        f"| `POST /clusters` | {figures['accept_per_s']:.0f} | {figures['accept_p50_ms']:.1f} | {figures['accept_p99_ms']:.1f} |",
        "",
        (
            f"Share: **{100 * figures['share']:.0f} %** of the empty route. All {figures['committed']} accepted requests were found in the"
            " database afterwards."
        ),
    ]


def _converge(figures: dict[str, Any]) -> list[str]:
    rows = [("10,000 in flight", figures["many"]), ("20 in flight among 10,000", figures["few"])]
    table = [
        f"| {name} | {f['reads_per_tick']} | {f['magnum_seconds_per_tick']} | {100 * f['magnum_share']:.1f} % | {f['tick_interval_s']} | {f['tick_period_p99_s']} |"
        f" {f['delay_p50_s']} | {f['delay_p99_s']} | {f['worker_peak_mb']} |"
        for name, f in rows
    ]
    base = figures["baseline"]
    return [
        "## Converge",
        "",
        "One worker process (16 threads) against the simulator, which charges real Magnum's time, one call after the other. Delay: from",
        "Magnum's CREATE_COMPLETE to the job's `succeeded`. The calls include the inventory's, which looks at everything once in a while.",
        "",
        (
            "| | reads of Magnum per tick | Magnum's seconds per tick | share of Magnum's time | s per tick | the longest ticks (p99) | delay p50 s |"
            " delay p99 s | worker MB |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
        *table,
        "",
        (
            f"Baseline in the same run, one GET per cluster every 10 s: {base['in_flight']} clusters want {base['gets_wanted']} GETs in"
            f" {base['seconds']} s; Magnum answered {base['gets']} ({100 * base['magnum_share']:.0f} % of its time), so a round takes"
            f" {base['round_s']} s and of {base['in_flight']} completions {base['completions_seen']} were seen, on average"
            f" {base['delay_mean_s']} s late (p99 {base['delay_p99_s']} s)."
        ),
    ]


def _start(figures: dict[str, Any]) -> list[str]:
    return [
        "## Start",
        "",
        "`make run` on a machine where everything is installed and the database exists: median of three starts.",
        "",
        "| | s |",
        "|---|---|",
        f"| ready | {figures['ready_s']:.1f} |",
        f"| first cluster CREATE_COMPLETE (its creation takes 5 s) | {figures['first_cluster_s']:.1f} |",
        f"| the slowest of the three | {figures['first_cluster_worst_s']:.1f} |",
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
