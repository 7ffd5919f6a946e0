"""Sources that are dead, slow, wrong or hostile: each is told as data, in time, and delays no other."""

import gzip
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from deployment.local.ports import free_port
from shared.domain.telemetry import Collected, Inventory
from shared.telemetry.collect import PrometheusTelemetry
from shared.telemetry.config import parse

AT = datetime(2026, 5, 1, tzinfo=UTC)
CLUSTER = "11111111-1111-1111-1111-111111111111"
GPU = "GPU-5c7f0f6e-0000-0000-0000-000000000001"
POWER = {"kcloud_metric": "DCGM_FI_DEV_POWER_USAGE", "magnum_cluster_uuid": CLUSTER, "node": "n1", "UUID": GPU}


_WAYS = itertools.count()


def vector(*series: tuple[dict[str, str], str], **more: Any) -> bytes:
    result = [{"metric": labels, "value": [1.0, value]} for labels, value in series]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}, **more}).encode()


def refusal(kind: str) -> bytes:
    return json.dumps({"status": "error", "errorType": kind, "error": "words of its own"}).encode()


class Fake(ThreadingHTTPServer):
    """Answers every query as told, and keeps what it was asked. Not a Prometheus: it stands for what goes wrong."""

    daemon_threads = True

    def __init__(self, behave: Callable[[BaseHTTPRequestHandler, dict[str, list[str]]], None]) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                outer.asked.append(form)
                outer.headers.append(dict(self.headers.items()))
                behave(self, form)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what these tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(behave: Callable[[BaseHTTPRequestHandler, dict[str, list[str]]], None]) -> Iterator[Fake]:
    server = Fake(behave)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def answering(status: int, body: bytes, **headers: str) -> Callable[[BaseHTTPRequestHandler, Any], None]:
    def behave(handler: BaseHTTPRequestHandler, _: Any) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def dripping_body(handler: BaseHTTPRequestHandler, _: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _second in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def dripping_headers(handler: BaseHTTPRequestHandler, _: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _second in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def silent(_: BaseHTTPRequestHandler, __: Any) -> None:
    time.sleep(10)


def a_source(url: str, **over: Any) -> dict[str, Any]:
    return {"name": "s", "url": url, "readers": ["dcgm"], "timeout_s": 0.5, "connect_timeout_s": 0.3, "budget_s": 1} | over


def collect(*sources: dict[str, Any], budget_s: float = 2.0) -> Collected:
    made = PrometheusTelemetry(parse({"sources": list(sources), "budget_s": budget_s}))
    return made.collect(Inventory(), AT)


def reasons(collected: Collected) -> list[tuple[str, str, str]]:
    return [(f.source, f.reader, f.reason) for f in collected.failures]


def test_a_good_answer_is_read() -> None:
    with serving(answering(200, vector((POWER, "61.5")))) as server:
        collected = collect(a_source(server.url + "/prefix"))
    assert [(s.cluster, s.accelerator, s.value, s.unit, s.source) for s in collected.samples] == [(CLUSTER, GPU, 61.5, "W", "s")]
    assert (collected.failures, collected.queries) == ((), 1)
    assert server.asked[0]["time"] == [f"{AT.timestamp():.3f}"]


def test_a_compressed_answer_in_pieces_is_read() -> None:
    body = gzip.compress(vector(*[(POWER | {"UUID": f"{GPU}{i:06}"}, "61.5") for i in range(20_000)]))

    def behave(handler: BaseHTTPRequestHandler, _: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(body), 1000):
            piece = body[start : start + 1000]
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    with serving(behave) as server:
        collected = collect(a_source(server.url, timeout_s=10, budget_s=10), budget_s=20)
    assert len(collected.samples) == 20_000


@pytest.mark.parametrize(
    "behave,reason",
    [
        (answering(401, b""), "NOT_AUTHORISED"),
        (answering(403, b"no"), "NOT_AUTHORISED"),
        (answering(302, b"", Location="http://127.0.0.1:1/"), "REDIRECTED"),
        (answering(200, b"<html>"), "NOT_PROMETHEUS"),
        (answering(200, b"[]"), "NOT_PROMETHEUS"),
        (answering(200, b'{"status": "success", "data": {"resultType": "matrix", "result": []}}'), "NOT_PROMETHEUS"),
        (answering(200, b'{"status": "success", "data": {"resultType": "vector", "result": [{"value": 5}]}}'), "NOT_PROMETHEUS"),
        (answering(200, b'{"status": "success", "data": {"resultType": "vector"}}'), "NOT_PROMETHEUS"),
        (answering(404, b"not here"), "NOT_PROMETHEUS"),
        (answering(502, b"bad gateway"), "UNAVAILABLE"),
        (answering(503, refusal("timeout")), "TIMEOUT"),
        (answering(200, gzip.compress(b"{}")[:-9], **{"Content-Encoding": "gzip"}), "NOT_PROMETHEUS"),
        (answering(200, b"not gzip", **{"Content-Encoding": "gzip"}), "UNREACHABLE"),
        (silent, "TIMEOUT"),
        (dripping_body, "TIMEOUT"),
        (dripping_headers, "TIMEOUT"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(next(_WAYS)),
)
def test_a_source_that_fails_is_told_once_and_asked_no_more(
    behave: Callable[[BaseHTTPRequestHandler, Any], None], reason: str
) -> None:
    with serving(behave) as server:
        begin = time.monotonic()
        collected = collect(a_source(server.url, readers=["kepler", "dcgm"]))
        assert time.monotonic() - begin < 4
    assert reasons(collected) == [("s", "", reason)]
    assert collected.samples == ()
    assert len(server.asked) == 1


def test_a_refused_query_leaves_the_other_readers() -> None:
    def behave(handler: BaseHTTPRequestHandler, form: dict[str, list[str]]) -> None:
        if "DCGM" in form["query"][0]:
            answering(200, vector((POWER, "61.5"), warnings=["a store is down"]))(handler, form)
        else:
            answering(422, refusal("execution"))(handler, form)

    with serving(behave) as server:
        collected = collect(a_source(server.url, readers=["kepler", "dcgm"]))
    assert reasons(collected) == [("s", "kepler", "QUERY_REFUSED")]
    assert "words of its own" in collected.failures[0].detail
    assert len(collected.samples) == 1
    assert [(f.rule, f.detail) for f in collected.findings] == [("warning", "a store is down")]


def test_an_answer_without_end_is_cut() -> None:
    with serving(answering(200, b" " * 5000)) as server:
        assert reasons(collect(a_source(server.url, max_bytes=1024))) == [("s", "dcgm", "ANSWER_TOO_LARGE")]


def test_nobody_there() -> None:
    assert reasons(collect(a_source(f"http://127.0.0.1:{free_port()}"))) == [("s", "", "UNREACHABLE")]


def test_no_tls_where_it_was_expected() -> None:
    with serving(answering(200, b"")) as server:
        assert reasons(collect(a_source(server.url.replace("http:", "https:")))) == [("s", "", "TLS_FAILED")]


def test_a_dead_source_delays_no_other() -> None:
    with serving(dripping_headers) as slow, serving(answering(200, vector((POWER, "61.5")))) as well:
        sources = [a_source(slow.url, name=f"slow{i}", timeout_s=20, budget_s=20) for i in range(5)]
        begin = time.monotonic()
        collected = collect(*sources, a_source(well.url, name="well"), budget_s=1.0)
        assert time.monotonic() - begin < 2.5
    assert [s.source for s in collected.samples] == ["well"]
    assert {reason for _, _, reason in reasons(collected)} == {"TIMEOUT"}
    assert len(collected.failures) == 5


def test_a_source_that_hangs_is_not_asked_again_meanwhile() -> None:
    with serving(dripping_headers) as server:
        made = PrometheusTelemetry(parse({"sources": [a_source(server.url, timeout_s=20, budget_s=20)], "budget_s": 0.5}))
        first = made.collect(Inventory(), AT)
        begin = time.monotonic()
        second = made.collect(Inventory(), AT)
        assert time.monotonic() - begin < 0.3
    assert [reasons(first), reasons(second)] == [[("s", "", "TIMEOUT")], [("s", "", "STILL_BUSY")]]
    assert len(server.asked) == 1


def test_a_source_that_is_well_again_is_asked_again() -> None:
    with serving(answering(200, vector((POWER, "61.5")))) as server:
        made = PrometheusTelemetry(parse({"sources": [a_source(server.url)]}))
        assert [len(made.collect(Inventory(), AT).samples) for _ in range(20)] == [1] * 20


def test_the_number_of_queries_does_not_grow_with_clusters() -> None:
    many = [
        (POWER | {"magnum_cluster_uuid": f"{i:08}-0000-0000-0000-000000000000", "UUID": f"{GPU}{i:05}"}, "61.5")
        for i in range(3000)
    ]
    counts = []
    for series in (many[:1], many):
        with serving(answering(200, vector(*series))) as server:
            collected = collect(
                a_source(server.url, readers=["dcgm", "kepler", "kube_state"], timeout_s=10, budget_s=10), budget_s=20
            )
        assert len({sample.cluster for sample in collected.samples}) == len(series)
        counts.append((collected.queries, len(server.asked)))
    assert counts == [(3, 3), (3, 3)]


@pytest.mark.parametrize("kind", ["token", "password"])
def test_credentials_are_read_anew_each_time(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "secret"
    file.write_text("one\n", encoding="utf-8")
    given = {"bearer_token_file": str(file)} if kind == "token" else {"username": "u", "password_file": str(file)}
    with serving(answering(200, vector())) as server:
        made = PrometheusTelemetry(parse({"sources": [a_source(server.url, **given)]}))
        made.collect(Inventory(), AT)
        file.write_text("two", encoding="utf-8")
        made.collect(Inventory(), AT)
        file.unlink()
        lost = made.collect(Inventory(), AT)
    expected = ["Bearer one", "Bearer two"] if kind == "token" else ["Basic dTpvbmU=", "Basic dTp0d28="]
    assert [headers["Authorization"] for headers in server.headers] == expected
    assert reasons(lost) == [("s", "", "CREDENTIAL_UNREADABLE")]
    assert lost.queries == 0


def test_a_netrc_does_not_replace_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    token = tmp_path / "token"
    token.write_text("ours", encoding="utf-8")
    with serving(answering(200, vector())) as server:
        collect(a_source(server.url, bearer_token_file=str(token)))
    assert server.headers[0]["Authorization"] == "Bearer ours"


def test_of_two_sources_that_say_the_same_the_first_counts() -> None:
    with serving(answering(200, vector((POWER, "60")))) as one, serving(answering(200, vector((POWER, "70")))) as two:
        collected = collect(a_source(one.url, name="one"), a_source(two.url, name="two"))
    assert [(s.source, s.value) for s in collected.samples] == [("one", 60.0)]


def test_no_source_means_no_sample_and_no_failure() -> None:
    assert collect() == Collected(AT, ())


def test_a_connection_that_is_never_accepted_ends_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.create_connection(("127.0.0.1", port), 1)]  # fills the queue of those to be accepted
        begin = time.monotonic()
        collected = collect(a_source(f"http://127.0.0.1:{port}"))
        assert time.monotonic() - begin < 2.5
        waiting[0].close()
    assert [reason for _, _, reason in reasons(collected)] == ["TIMEOUT"]
