"""What `make run` completes in the environment, and the secrets it makes once and keeps.

Each part can be replaced by a real one through its variable, one at a time: DATABASE_URL (or POSTGRES_HOST), REDIS_URL (or
REDIS_HOST) and OS_AUTH_URL. An empty variable counts as unset.
"""

import base64
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deployment.local.embedded import EmbeddedPostgres, EmbeddedValkey

ROOT: Final = Path(__file__).resolve().parents[2]
#: Who the simulator knows. A real cloud's account is never guessed: sending it this password would be an attempt to log in.
_SIMULATOR_ACCOUNT: Final = {
    "OS_USERNAME": "admin",
    "OS_PASSWORD": "secretpassword",
    "OS_PROJECT_NAME": "kcloud",
    "OS_USER_DOMAIN_NAME": "Default",
    "OS_PROJECT_DOMAIN_NAME": "Default",
    "OS_REGION_NAME": "RegionOne",
    "OS_INTERFACE": "public",
    "OS_IDENTITY_API_VERSION": "3",
}
_OPENRC_KEYS: Final = ("OS_AUTH_URL", *_SIMULATOR_ACCOUNT, "OS_CACERT")


class LaunchError(RuntimeError):
    """It cannot run, and the text says why and what to do about it."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One address that a program listens on, and the variables that choose it."""

    program: str
    variable: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """Where a client on this machine finds it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What will run, and the environment it runs in."""

    state_dir: Path
    environment: dict[str, str]
    postgres: EmbeddedPostgres | None  #: None where the user gave a database
    valkey: EmbeddedValkey | None
    api: Listener
    flower: Listener
    simulator: Listener | None

    @property
    def log_dir(self) -> Path:
        """One file a program."""
        return self.state_dir / "log"

    @property
    def listeners(self) -> list[Listener]:
        """All ports that must be free."""
        return [listener for listener in (self.api, self.flower, self.simulator) if listener is not None]


def state_dir(environ: Mapping[str, str]) -> Path:
    """STATE_DIR, by default ``.state`` beside the Makefile."""
    return (ROOT / (environ.get("STATE_DIR") or ".state")).resolve()


def _kept_secret(path: Path, make: Callable[[], str]) -> str:
    """The secret in ``path``, made at the first start; readable for its owner alone."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        value = make()
    # Whole or not at all: a half-written key would be taken for the real one at the next start.
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(value + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    return value


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode("ascii")


def _port(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not text.isdecimal() or not 0 < int(text) <= 65_535:  # noqa: PLR2004
        raise LaunchError(f"{name}={text} is not a port: give a number from 1 to 65535.")
    return int(text)


def plan(environ: Mapping[str, str]) -> Plan:
    """Decide what runs. Makes STATE_DIR and the secrets in it; raises :class:`LaunchError` where a variable is wrong."""
    home = state_dir(environ)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("log", "run", "run/metrics"):
        (home / name).mkdir(exist_ok=True, mode=0o700)
    env = {key: value for key, value in environ.items() if value}

    def given(*names: str) -> bool:
        return any(name in env or f"{name}_FILE" in env for name in names)

    env["STATE_DIR"] = str(home)
    for name, value in {
        "API_HOST": "127.0.0.1",
        "API_PORT": "8006",
        "FLOWER_HOST": "127.0.0.1",
        "FLOWER_PORT": "5555",
        "SIMULATOR_PORT": "8780",
        "WORKER_CONCURRENCY": "16",
    }.items():
        env.setdefault(name, value)

    postgres = None
    if not given("DATABASE_URL", "POSTGRES_HOST"):
        postgres = EmbeddedPostgres(home / "postgres")
        env["DATABASE_URL"] = postgres.url()
    valkey = None
    if not given("REDIS_URL", "REDIS_HOST"):
        valkey = EmbeddedValkey(home / "valkey")
        env["REDIS_URL"] = valkey.url()
    simulator = None
    if not given("OS_AUTH_URL"):
        simulator = Listener("simulator", "SIMULATOR_PORT", "127.0.0.1", _port(env, "SIMULATOR_PORT"))
        env["OS_AUTH_URL"] = f"{simulator.url}/identity/v3"
        env |= {name: value for name, value in _SIMULATOR_ACCOUNT.items() if not given(name)}
    if not given("KCLOUD_SECRET_KEY"):
        env["KCLOUD_SECRET_KEY"] = _kept_secret(home / "secret-key", _fernet_key)
    # Flower reads its login from this variable, where `ps` does not show it.
    if not given("FLOWER_BASIC_AUTH"):
        env["FLOWER_BASIC_AUTH"] = _kept_secret(home / "flower-login", lambda: f"kcloud:{secrets.token_urlsafe(12)}")
    # All programs count into one directory, so that the API's /metrics shows the workers' ticks and calls too.
    env.setdefault("PROMETHEUS_MULTIPROC_DIR", str(home / "run" / "metrics"))
    # Where it is set, every program compiles our packages anew at every start: 0.4 s each, of five.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    # Programs write to files here: without this a line would show only when 8 kB have gathered.
    env["PYTHONUNBUFFERED"] = "1"
    return Plan(
        state_dir=home,
        environment=env,
        postgres=postgres,
        valkey=valkey,
        api=Listener("api", "API_PORT", env["API_HOST"], _port(env, "API_PORT")),
        flower=Listener("flower", "FLOWER_PORT", env["FLOWER_HOST"], _port(env, "FLOWER_PORT")),
        simulator=simulator,
    )


_SHELL_FUNCTION = r"""
# A token without the openstack client: export TOKEN=$(kcloud_token)
kcloud_token() {
    curl -sS -o /dev/null -D - "$OS_AUTH_URL/auth/tokens" -H 'Content-Type: application/json' --data-binary @- <<EOF |
{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "$OS_USERNAME",
 "domain": {"name": "$OS_USER_DOMAIN_NAME"}, "password": "$OS_PASSWORD"}}},
 "scope": {"project": {"name": "$OS_PROJECT_NAME", "domain": {"name": "$OS_PROJECT_DOMAIN_NAME"}}}}}
EOF
        tr -d '\r' | sed -n 's/^[Xx]-[Ss]ubject-[Tt]oken: //p'
}
"""


def write_openrc(plan_: Plan) -> Path:
    """STATE_DIR/openrc: what `source` needs for the stock clients and the first requests.

    The simulator's public password is written; a real cloud's is not, the shell asks for it by its variable's name.
    """
    path = plan_.state_dir / "openrc"
    lines = ["# Made by `make run` at each start. Use: source " + shlex.quote(str(path))]
    for name in _OPENRC_KEYS:
        if name == "OS_PASSWORD" and plan_.simulator is None:
            lines.append('[ -n "${OS_PASSWORD:-}" ] || echo "Set OS_PASSWORD: a real cloud\'s password is not kept here." >&2')
        elif name in plan_.environment:
            lines.append(f"export {name}={shlex.quote(plan_.environment[name])}")
    lines += [
        f"export KCLOUD_API={shlex.quote(plan_.api.url)}",
        f"command -v openstack >/dev/null 2>&1 || PATH=$PATH:{shlex.quote(str(Path(sys.executable).parent))}",
    ]
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n" + _SHELL_FUNCTION)
    fresh.rename(path)
    return path
