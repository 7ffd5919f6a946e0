"""Documents made from the code: ``python -m infrastructure.documents [states|configuration]`` (``make states``, ``make docs-generated``).

They are committed, and a test fails when they are stale.
"""

import ast
import inspect
import sys
from pathlib import Path
from typing import Final

from shared import settings
from shared.domain import clusters, jobs, plans
from shared.domain.clusters import Phase
from shared.domain.jobs import TERMINAL, TRANSITIONS, JobKind, JobState
from shared.domain.plans import ENDED, PlanState, StepState

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"

#: What each variable means. One that the settings read and this lacks fails the test.
MEANING: Final = {
    "OS_AUTH_URL": "Keystone's address, with /v3. Unset, `make run` starts the simulator.",
    "OS_USERNAME": "The service's user. It checks callers' tokens, and works in projects where it has the role member.",
    "OS_PASSWORD": "Its password.",
    "OS_PROJECT_NAME": "Its own project.",
    "OS_USER_DOMAIN_NAME": "The user's domain.",
    "OS_PROJECT_DOMAIN_NAME": "The project's domain.",
    "OS_REGION_NAME": "The region that this installation serves.",
    "OS_CACERT": "A file of certificate authorities, for private ones.",
    "OS_TIMEOUT": "Seconds to connect, and between bytes of an answer, for each call to OpenStack.",
    "MAGNUM_ENDPOINT_TYPE": "Interface of the catalog: public, internal or admin.",
    "MAGNUM_API_VERSION": "Microversion of Magnum, or `latest`. More than both sides have is lowered.",
    "DATABASE_URL": "PostgreSQL. Unset, `make run` starts one of its own. Instead, POSTGRES_HOST and its companions.",
    "POSTGRES_HOST": "PostgreSQL's host, where DATABASE_URL is unset.",
    "POSTGRES_PORT": "Its port.",
    "POSTGRES_DB": "The database.",
    "POSTGRES_USER": "The user.",
    "POSTGRES_PASSWORD": "The password.",
    "REDIS_URL": "Redis or Valkey: redis://host:port/db, or redis+socket:///path. Unset, `make run` starts one of its own.",
    "REDIS_HOST": "Redis' host, where REDIS_URL is unset.",
    "REDIS_PORT": "Its port.",
    "REDIS_PASSWORD": "Its password.",
    "KCLOUD_SECRET_KEY": "Fernet key (32 bytes, URL-safe base64) that encrypts registered credentials. Without it none can be registered.",
    "API_HOST": "Address that the API listens on.",
    "API_PORT": "Port that the API listens on.",
    "API_WORKERS": "gunicorn's processes.",
    "API_THREADS": "Threads of each.",
    "API_MAX_BODY_BYTES": "Longest request body.",
    "API_MAX_WAIT": "Longest `Prefer: wait`, in seconds.",
    "TELEMETRY_FILE": "File that names the Prometheus servers to read ([telemetry.md](telemetry.md)). Without it power is modelled, and use is not known.",
    "WEBHOOK_NETWORKS": "Address ranges, with commas between them, that webhooks may reach besides the public internet, such as 10.20.0.0/16.",
    "METRICS_TOKEN": "Opens `/metrics` to whoever sends it as a bearer token; at least 16 characters. Without it /metrics asks for a Keystone token.",
    "METRICS_HOST": "Address that a worker tells its metrics at.",
    "METRICS_PORT": "Port for that, where workers don't share PROMETHEUS_MULTIPROC_DIR with the API. Unset, a worker opens none.",
    "POLICY_FILE": "A file of oslo.policy rules that replace the built-in ones.",
    "CATALOG_TTL": "Seconds for which templates, flavors and keypairs are remembered.",
    "WORKER_CONCURRENCY": "Threads of a worker process.",
    "LEASE_TTL": "Seconds for which a worker holds a job. At least three times OS_TIMEOUT.",
    "RELAY_INTERVAL": "Seconds between the relay's looks when nothing wakes it.",
    "REDISPATCH_AFTER": "Seconds after which a hint that led to nothing is sent again.",
    "DISPATCH_WINDOW": "Hints about jobs that may wait in the broker.",
    "TICK_MIN": "Seconds between looks at a project's clusters while something is in flight, at least; half of it while no more than three are.",
    "TICK_MAX": "The same, at most, unless Magnum's share asks for more.",
    "TICK_IDLE": "Seconds between looks while nothing is in flight.",
    "TICK_BUDGET": "Seconds that one look may wait for Magnum.",
    "MAGNUM_SHARE": "The part of Magnum's time that looking at what is in flight may take.",
    "MAGNUM_PAGE_SIZE": "Clusters per page of a list.",
    "INVENTORY_INTERVAL": "Seconds between two looks at everything, at least.",
    "INVENTORY_SHARE": "The part of Magnum's time that looking at everything may take.",
    "JOB_MAX_ATTEMPTS": "Attempts of a job that meets passing errors.",
    "JOB_MAX_CRASHES": "Workers that may die with a job before it is given up.",
    "LOST_ANSWER_GRACE": "Seconds for which a create whose answer was lost is looked for before it is made again.",
    "CREATE_DEADLINE": "Seconds a create may take.",
    "RESIZE_DEADLINE": "Seconds a resize may take.",
    "DELETE_DEADLINE": "Seconds a delete may take.",
    "NETWORK_POOL": "Private IPv4 range from which the clusters' own networks get theirs. No two of them overlap.",
    "NETWORK_PREFIX": "Prefix length of each such network, 16 to 28.",
    "EXTERNAL_NETWORK": "Network that their routers lead to; by default the first external one that the project sees.",
    "ACCELERATORS_FILE": "A catalogue of accelerators in place of shared/data/accelerators.yaml.",
    "NODE_RESERVED_CPU_MILLI": "Thousandths of a core that each node keeps for its own services; workloads get the rest.",
    "NODE_RESERVED_MEMORY_PERCENT": "The share of each node's memory that it keeps for them.",
    "SITE_POWER_BUDGET": "Watts that all clusters of the region together may draw at their highest. Nothing that would exceed it is made or woken.",
    "PROJECT_POWER_BUDGET": "The same for each project's clusters.",
    "PLACEMENT_WATT_WEIGHT": "What a watt weighs against room on nodes, in thousandths of an accelerator, while much is free. 0: nothing; 2 saves the most.",
    "ELECTRICITY_RATE": "Price of a kWh; weighs watts against money when workloads are matched.",
    "PLACEMENT_LEASE": "Seconds for which capacity is held where a request names no lease.",
    "PLACEMENT_LEASE_MAX": "The longest lease, in seconds.",
    "PLAN_VALID": "Seconds for which a plan of consolidation may be applied; then it expires.",
    "PLAN_APPROVAL": "Who may approve plans: any `member`, an `other` member than the one who asked for it, or an `admin`.",
    "PLAN_MAX_CLUSTERS": "Clusters of a project that plans may disturb (move something off, shrink, delete) within PLAN_WINDOW.",
    "PLAN_WINDOW": "Seconds of that window.",
    "PLAN_DENY_WINDOWS": "When plans begin nothing, such as `mon-fri 08:00-18:00 Asia/Seoul; sun 00:00-24:00`; UTC where no time zone is named.",
    "PLAN_MOVE_DEADLINE": "Seconds within which moves that were offered must be reported; otherwise the plan fails.",
    "STALL_AFTER": "Seconds without any change in Magnum after which a job counts as stalled.",
    "JOB_RETENTION_DAYS": "Days for which ended jobs are kept.",
    "MONITORING_UPDATE_INTERVAL": "Seconds between samples of cluster_metrics.",
    "METRICS_RETENTION_DAYS": "Days for which samples are kept.",
    "LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR.",
    "LOG_FORMAT": "console or json.",
}

#: Read by `make run` and by the programs it starts, not by the settings.
LOCAL: Final = {
    "STATE_DIR": (".state", "Where `make run` keeps databases, logs and secrets."),
    "FLOWER_HOST": ("127.0.0.1", "Address that Flower listens on."),
    "FLOWER_PORT": ("5555", "Port that Flower listens on."),
    "FLOWER_BASIC_AUTH": ("made once, kept in STATE_DIR", "Flower's login, user:password."),
    "SIMULATOR_PORT": ("8780", "Port of the simulated OpenStack."),
}


def variables() -> dict[str, str]:
    """Every variable that the settings read, with its default as text ("needed" where there is none)."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(inspect.getsource(settings))):
        is_read = (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "env"
            and node.func.attr in {"str", "int", "float", "bool"}
        )
        if is_read and isinstance(node, ast.Call) and isinstance(node.args[0], ast.Constant):
            default = ast.literal_eval(node.args[1]) if len(node.args) > 1 else "needed"
            found.setdefault(str(node.args[0].value), "" if default in {None, ""} else str(default))
    return found


def configuration() -> str:
    """docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Made from `shared/settings.py` by `make docs-generated`. Everything is set by environment variables. A secret may come from a",
        "file: `OS_PASSWORD_FILE=/run/secrets/os_password`. Wrong values end the start, all named at once.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    read = variables()
    lines += [f"| `{name}` | {_code(read[name])} | {words} |" for name, words in MEANING.items()]
    lines += ["", "For `make run` alone:", "", "| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {_code(default)} | {words} |" for name, (default, words) in LOCAL.items()]
    return "\n".join(lines) + "\n"


def states() -> str:
    """docs/states.md."""
    meanings = _comments(jobs) | _comments(clusters) | _comments(plans)
    lines = [
        "# States",
        "",
        "Made from `jobs.py`, `clusters.py` and `plans.py` of `shared/domain` by `make states`.",
        "",
        "## Jobs",
        "",
        "| state | meaning |",
        "|---|---|",
    ]
    lines += [f"| `{state}`{' (end)' if state in TERMINAL else ''} | {meanings['JobState'][state.name]} |" for state in JobState]
    lines += ["", "| from | to | what moves it |", "|---|---|---|"]
    lines += [f"| `{old}` | `{new}` | {words} |" for old, ways in TRANSITIONS.items() for new, words in ways.items()]
    lines += ["", "```mermaid", "stateDiagram-v2", f"    [*] --> {JobState.QUEUED}"]
    lines += [
        f"    {old} --> {new}: {words.replace(':', ',').replace(';', ',')}"
        for old, ways in TRANSITIONS.items()
        for new, words in ways.items()
    ]
    lines += [f"    {state} --> [*]" for state in JobState if state in TERMINAL]
    lines += ["```", "", "Kinds of jobs:", "", "| kind | meaning |", "|---|---|"]
    lines += [f"| `{kind}` | {meanings['JobKind'][kind.name]} |" for kind in JobKind]
    lines += [
        "",
        "## Clusters",
        "",
        "`GET /clusters/{id}/status` shows one of these as `phase`.",
        "",
        "| phase | meaning |",
        "|---|---|",
    ]
    lines += [f"| `{phase}` | {meanings['Phase'][phase.name]} |" for phase in Phase]
    lines += ["", "## Plans of consolidation", "", "| state | meaning |", "|---|---|"]
    lines += [f"| `{one}`{' (end)' if one in ENDED else ''} | {meanings['PlanState'][one.name]} |" for one in PlanState]
    lines += ["", "| from | to | what moves it |", "|---|---|---|"]
    lines += [f"| `{old}` | `{new}` | {words} |" for old, ways in plans.TRANSITIONS.items() for new, words in ways.items()]
    lines += ["", "Their steps:", "", "| state | meaning |", "|---|---|"]
    lines += [f"| `{step}` | {meanings['StepState'][step.name]} |" for step in StepState]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text and " " not in text and text != "needed" else text


def _comments(module: object) -> dict[str, dict[str, str]]:
    """The ``#:`` comments behind the members of a module's classes."""
    found: dict[str, dict[str, str]] = {}
    current = ""
    for line in inspect.getsource(module).splitlines():  # type: ignore[arg-type]  # a module is what it takes
        if line.startswith("class "):
            current = line.removeprefix("class ").split("(")[0].rstrip(":")
        if "  #: " in line and " = " in line:
            found.setdefault(current, {})[line.split(" = ")[0].strip()] = line.split("  #: ", 1)[1]
    return found


_ALL: Final = {"states": states, "configuration": configuration}


def main(names: list[str]) -> int:
    """Write ``names``, or all."""
    if set(names) - set(_ALL):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    for name in names or _ALL:
        (DOCS / f"{name}.md").write_text(_ALL[name](), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
