"""The embedded servers keep what they were given, survive kill -9, and never outlive their owner."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from deployment.local import processes
from deployment.local.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.waiting import wait_until

_OWNER = """
import os, sys
from deployment.local.embedded import EmbeddedPostgres, EmbeddedValkey
a = EmbeddedPostgres(sys.argv[1] + '/pg', fsync=False).start()
b = EmbeddedValkey(sys.argv[1] + '/valkey').start()
print(a.pid, b.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def _query(server: EmbeddedPostgres, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(server.dsn())
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def test_postgres_keeps_its_rows_over_restart_and_kill(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "pg", fsync=False) as server:
        _query(server, "CREATE TABLE kept (n int)")
        _query(server, "INSERT INTO kept VALUES (1)")
        address = server.url()
        server.restart()
        assert _query(server, "SELECT n FROM kept") == [(1,)]
        server.kill()
        assert server.pid is None
        server.start()
        assert _query(server, "SELECT n FROM kept") == [(1,)]
        assert server.url() == address


def test_postgres_is_durable_unless_a_test_says_otherwise(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "pg") as server:
        shown = _query(server, "SELECT current_setting('fsync'), current_setting('synchronous_commit')")
    assert shown == [("on", "on")]


def test_postgres_starts_over_a_pid_file_whose_number_is_someone_elses(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "pg", fsync=False) as server:
        server.stop()
        lines = [str(os.getpid()), str(server.data), "1", "5432", str(tmp_path), "", "1 1", "ready"]
        (server.data / "postmaster.pid").write_text("\n".join(lines))
        server.start()
        assert _query(server, "SELECT 1") == [(1,)]


def test_postgres_takes_over_from_a_server_that_was_left_running(tmp_path: Path) -> None:
    left = EmbeddedPostgres(tmp_path / "pg", fsync=False).start()
    try:
        with EmbeddedPostgres(tmp_path / "pg", fsync=False) as server:
            assert server.pid != left.pid
            assert _query(server, "SELECT 1") == [(1,)]
    finally:
        left.stop()


def test_sockets_move_where_the_path_is_too_long_and_leave_nothing(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    with EmbeddedPostgres(home / "pg", fsync=False) as server, EmbeddedValkey(home / "valkey") as broker:
        for path in (server.socket_path, broker.socket_path):
            assert len(os.fsencode(path)) <= processes.SOCKET_PATH_MAX
            assert home not in path.parents
        assert _query(server, "SELECT 1") == [(1,)]
        assert redis.Redis.from_url(broker.client_url()).ping()
        outside = [server.sockets.parent, broker.socket_path.parent]
    assert not [path for path in outside if path.exists()]


def test_a_socket_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    home = tmp_path / ("long" * 30)
    short = processes.socket_directory(home, "name")
    short.chmod(0o777)
    with pytest.raises(processes.EmbeddedServerError, match="belongs to someone else"):
        processes.socket_directory(home, "name")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become someone else")
def test_root_may_run_postgres_as_another_user_and_come_back() -> None:
    # Not in tmp_path: pytest closes the directories above it to all other users, again at the start of each run.
    with tempfile.TemporaryDirectory(prefix="kcloud-test-") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder, "pg"), fsync=False, unprivileged_user="nobody") as server:
            assert server.pid is not None
            assert psutil.Process(server.pid).username() == "nobody"
            _query(server, "CREATE TABLE kept (n int)")
        with EmbeddedPostgres(Path(folder, "pg"), fsync=False) as server:
            assert _query(server, "SELECT count(*) FROM kept") == [(0,)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become someone else")
def test_a_directory_that_the_other_user_cannot_reach_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(processes.EmbeddedServerError, match="must be reachable for the user nobody"):
        EmbeddedPostgres(closed / "pg", fsync=False, unprivileged_user="nobody").start()


def test_valkey_keeps_its_keys_over_restart_and_never_evicts(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "valkey") as server:
        client = redis.Redis.from_url(server.client_url(3))
        client.set("kept", "1")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        server.restart()
        assert client.get("kept") == b"1"
        client.close()


def test_valkey_comes_back_after_kill_9_with_what_was_flushed(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "valkey") as server:
        client = redis.Redis.from_url(server.client_url())
        client.config_set("appendfsync", "always")
        client.set("kept", "1")
        server.kill()
        server.start()
        assert client.get("kept") == b"1"
        client.close()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    server.prepare()
    (server.home / "appendonlydir").write_text("a file where a directory is needed")
    with pytest.raises(processes.EmbeddedServerError, match=r"(?s)valkey ended with 1.*append-only dir"):
        server.start()


def test_a_server_started_from_a_short_lived_thread_stays(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        with redis.Redis.from_url(server.client_url()) as client:
            assert [client.ping() for _ in range(20)] == [True] * 20
    finally:
        server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_servers_end_when_their_owner_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _OWNER,
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    printed, _ = owner.communicate(timeout=60)
    pids = [int(word) for word in printed.split()]
    assert len(pids) == 2
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), 15, what="both servers gone")
