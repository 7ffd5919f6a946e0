"""A load generator that costs little: one thread, many keep-alive connections, requests written in advance.

Each connection has one request under way at a time. Answers are read just enough to know their status and length.
"""

import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Measured:
    """What a run saw. Latencies in seconds, in no order."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the answers did not exceed, in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


class _Client:
    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.socket = self._open()
        self.received = b""
        self.began = 0.0

    def _open(self) -> socket.socket:
        opened = socket.create_connection(self.address, timeout=30)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def send(self, request: bytes) -> None:
        self.received = b""
        self.began = time.perf_counter()
        self.socket.sendall(request)

    def reopen(self) -> None:
        self.socket.close()
        self.socket = self._open()

    def read(self) -> tuple[int, bool] | None:
        """Status, and whether the server closes the connection; None while the answer is not whole."""
        piece = self.socket.recv(65536)
        if not piece:
            return 0, True
        self.received += piece
        head, gap, body = self.received.partition(b"\r\n\r\n")
        if not gap:
            return None
        lowered = head.lower()
        start = lowered.find(b"content-length:")
        length = int(lowered[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
        if len(body) < length:
            return None
        return int(head[9:12]), b"connection: close" in lowered


def run(host: str, port: int, requests: Iterator[bytes], *, clients: int, seconds: float) -> Measured:
    """Send ``requests`` over ``clients`` connections for ``seconds``; those under way at the end are waited for, not counted."""
    measured = Measured()
    selector = selectors.DefaultSelector()
    everyone = [_Client((host, port)) for _ in range(clients)]
    for client in everyone:
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.send(next(requests))
    began = time.perf_counter()
    until = began + seconds
    under_way = clients
    while under_way:
        for key, _ in selector.select(timeout=30):
            client = key.data
            answer = client.read()
            if answer is None:
                continue
            now = time.perf_counter()
            status, closing = answer
            if now < until:
                measured.statuses[status] += 1
                measured.latencies.append(now - client.began)
            if closing:
                selector.unregister(client.socket)
                client.reopen()
                selector.register(client.socket, selectors.EVENT_READ, client)
            if now < until:
                client.send(next(requests))
            else:
                under_way -= 1
        if time.perf_counter() > until + 30:
            break
    measured.seconds = seconds
    for client in everyone:
        client.socket.close()
    return measured
