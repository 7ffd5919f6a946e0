"""A receiver of webhooks on the loopback, which answers as told and keeps what it got."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Post:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def is_signed(self, secret: str) -> bool:
        """Whether its signature is the secret's, checked as a receiver would."""
        parts = dict(part.split("=", 1) for part in self.headers["Kcloud-Signature"].split(","))
        wanted = hmac.new(secret.encode(), parts["t"].encode() + b"." + self.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(wanted, parts["v1"])


@dataclass
class Receiver:
    """Answers the next posts with ``statuses``, then with 204."""

    url: str
    posts: list[Post] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    location: str | None = None
    hang: threading.Event | None = None  #: sends a byte at a time until this is set


@contextmanager
def receiving() -> Iterator[Receiver]:
    """One on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posts.append(Post(self.path, dict(self.headers.items()), body))
            if found.hang is not None:
                while not found.hang.wait(0.2):
                    try:
                        self.wfile.write(b"H")
                    except OSError:
                        return
                return
            self.send_response(found.statuses.pop(0) if found.statuses else 204)
            if found.location:
                self.send_header("Location", found.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Receiver(f"http://127.0.0.1:{server.server_address[1]}/hook")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
