"""What `make run` decides before anything starts, and what it shows of the logs."""

import base64
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from deployment.local import environment
from deployment.local.environment import LaunchError, Listener
from deployment.local.logs import LogWatcher
from deployment.local.ports import require_free
from deployment.local.supervision import write_config


def _plan(tmp_path: Path, **variables: str) -> environment.Plan:
    return environment.plan({"STATE_DIR": str(tmp_path / "state"), **variables})


def test_without_variables_everything_is_embedded_and_simulated(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    assert plan.postgres is not None
    assert plan.valkey is not None
    assert plan.simulator is not None
    env = plan.environment
    assert env["DATABASE_URL"] == plan.postgres.url()
    assert env["REDIS_URL"] == plan.valkey.url()
    assert env["OS_AUTH_URL"] == "http://127.0.0.1:8780/identity/v3"
    assert (env["OS_USERNAME"], env["OS_PROJECT_NAME"], env["API_PORT"]) == ("admin", "kcloud", "8006")


@pytest.mark.parametrize(
    "variable",
    ["DATABASE_URL", "DATABASE_URL_FILE", "POSTGRES_HOST"],
)
def test_a_given_database_replaces_the_embedded_one_alone(tmp_path: Path, variable: str) -> None:
    plan = _plan(tmp_path, **{variable: "given"})
    assert plan.postgres is None
    assert plan.valkey is not None
    assert plan.simulator is not None
    assert "DATABASE_URL" not in plan.environment or variable == "DATABASE_URL"


def test_a_given_broker_replaces_the_embedded_one_alone(tmp_path: Path) -> None:
    plan = _plan(tmp_path, REDIS_URL="redis://elsewhere/0")
    assert plan.valkey is None
    assert plan.postgres is not None
    assert plan.environment["REDIS_URL"] == "redis://elsewhere/0"


def test_a_given_cloud_is_never_sent_the_simulators_password(tmp_path: Path) -> None:
    plan = _plan(tmp_path, OS_AUTH_URL="http://cloud:5000/v3")
    assert plan.simulator is None
    assert "OS_PASSWORD" not in plan.environment
    assert "OS_USERNAME" not in plan.environment


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    plan = _plan(tmp_path, DATABASE_URL="", OS_AUTH_URL="", API_PORT="")
    assert plan.postgres is not None
    assert plan.simulator is not None
    assert plan.api.port == 8006


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    first, second = _plan(tmp_path), _plan(tmp_path)
    for name, file in (("KCLOUD_SECRET_KEY", "secret-key"), ("FLOWER_BASIC_AUTH", "flower-login")):
        assert first.environment[name] == second.environment[name]
        assert stat.S_IMODE((first.state_dir / file).stat().st_mode) == 0o600
    assert len(base64.urlsafe_b64decode(first.environment["KCLOUD_SECRET_KEY"])) == 32
    other = environment.plan({"STATE_DIR": str(tmp_path / "other")})
    assert other.environment["KCLOUD_SECRET_KEY"] != first.environment["KCLOUD_SECRET_KEY"]


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "80 06"])
def test_a_wrong_port_is_named(tmp_path: Path, port: str) -> None:
    with pytest.raises(LaunchError, match=r"FLOWER_PORT=.* is not a port"):
        _plan(tmp_path, FLOWER_PORT=port)


def test_a_taken_port_is_named_with_its_variable_and_its_holder() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(LaunchError) as caught:
            require_free([Listener("api", "API_PORT", "127.0.0.1", port)])
    assert f"port {port} on 127.0.0.1 (api) is taken by process" in str(caught.value)
    assert f"make run API_PORT={port + 1}" in str(caught.value)


def test_two_programs_on_one_port_are_both_named(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    plan = _plan(tmp_path, API_PORT=port, FLOWER_PORT=port)
    with pytest.raises(LaunchError, match="API_PORT and FLOWER_PORT are both"):
        require_free([plan.api, plan.flower])


def test_openrc_is_private_and_a_shell_can_read_it(tmp_path: Path) -> None:
    plan = _plan(tmp_path, OS_PROJECT_NAME="it's $HOME")
    path = environment.write_openrc(plan)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shell = 'set -eu; . "$1"; echo "$OS_PROJECT_NAME|$OS_PASSWORD|$KCLOUD_API"; command -v kcloud_token'
    done = subprocess.run(["/bin/sh", "-c", shell, "sh", path], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["it's $HOME|secretpassword|http://127.0.0.1:8006", "kcloud_token"]


def test_openrc_of_a_real_cloud_keeps_no_password(tmp_path: Path) -> None:
    plan = _plan(tmp_path, OS_AUTH_URL="http://cloud:5000/v3", OS_PASSWORD="hidden-word")
    assert "hidden-word" not in environment.write_openrc(plan).read_text()


def test_no_secret_stands_in_the_process_managers_file(tmp_path: Path) -> None:
    plan = _plan(tmp_path, OS_PASSWORD="hidden-word", FLOWER_BASIC_AUTH="me:hidden-login")
    text = write_config(plan).read_text()
    assert "hidden-" not in text
    assert plan.environment["KCLOUD_SECRET_KEY"] not in text


def test_the_terminal_shows_warnings_and_restarts_and_nothing_else(tmp_path: Path) -> None:
    api, manager = tmp_path / "api.log", tmp_path / "supervisord.log"
    api.write_text("2026 [error    ] of an earlier run\n")
    logs = LogWatcher(tmp_path)
    with api.open("a") as file:
        file.write("2026 [info     ] served\n2026 [\x1b[31mwarning  \x1b[0m] slow\n. logfile -> [stderr]@%WARNING\nERROR: hal")
    manager.write_text(
        "INFO exited: api (exit status 1; not expected)\nINFO spawned: 'api' with pid 7\nINFO spawned: 'beat' with pid 8\n"
    )
    assert logs.news() == [
        "[api] 2026 [warning  ] slow",
        "[api] ended by itself (exit status 1); it is started again",
        "[api] started again as process 7",
    ]
    with api.open("a") as file:
        file.write("f a line\n")
    assert logs.news() == ["[api] ERROR: half a line"]
    assert logs.exits == {"api": 1}


def test_a_flood_of_errors_is_cut_short(tmp_path: Path) -> None:
    logs = LogWatcher(tmp_path)
    (tmp_path / "worker.log").write_text("ERROR again\n" * 50)
    shown = logs.news()
    assert len(shown) == 11
    assert shown[-1].startswith("[worker] and 40 more: ")
