"""HTTP to addresses that users name.

The service stands inside the operator's network, so an address of a user's choice must not lead it there: a name is resolved once,
each address is checked, and the connection goes to the address that was checked. Redirects are not followed, and of the answer only
the status is read. Every post is bounded in time, whatever the receiver does.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from shared.domain.ports import Received

_NAT64: Final = IPv6Network("64:ff9b::/96")
_CONNECT_S: Final = 3.0
_WHOLE_S: Final = 6.0
_USER_AGENT: Final = "kcloud-infrastructure"
_SUCCESS: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)


class _Refused(OSError):
    """This address is not one that may be sent to."""


class Outbound:
    """Implements the port ``WebhookSender``. ``networks`` may be reached besides the public internet."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(text) for text in networks]

    def forbids(self, url: str) -> str | None:
        """See the port. A name is looked up only when something is sent."""
        host = urlsplit(url).hostname or ""
        try:
            ip_address(host)
        except ValueError:
            return None
        return None if self._may_reach(host) else self._why(host)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Received:
        """See the port."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        connection = http.client.HTTPConnection(parts.hostname or "", port, timeout=_CONNECT_S)
        guard: threading.Timer | None = None
        try:
            opened = self._connect(parts.hostname or "", port)
            connection.sock = opened
            # A receiver that sends a byte at a time would never run into the socket's own timeout.
            guard = threading.Timer(_WHOLE_S, _cut, (opened,))
            guard.daemon = True
            guard.start()
            if secure:
                connection.sock = ssl.create_default_context().wrap_socket(opened, server_hostname=parts.hostname)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, body, {"User-Agent": _USER_AGENT, "Connection": "close", **headers})
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as exc:
            return Received(None, _words(exc))
        finally:
            if guard is not None:
                guard.cancel()
            connection.close()
        if status in _SUCCESS:
            return Received(status)
        if status in _REDIRECT:
            return Received(status, f"It answered {status}; redirects are not followed.")
        return Received(status, f"It answered {status}.")

    def _connect(self, host: str, port: int) -> socket.socket:
        failed: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            where = str(address[0])
            if not self._may_reach(where):
                failed = _Refused(self._why(where))
                continue
            opened = socket.socket(family, kind, protocol)
            opened.settimeout(_CONNECT_S)
            try:
                opened.connect(address)
            except OSError as exc:
                opened.close()
                failed = exc
            else:
                return opened
        raise failed or OSError("The name has no address.")

    def _may_reach(self, text: str) -> bool:
        address = ip_address(text.partition("%")[0])
        if isinstance(address, IPv6Address) and (carried := _carried(address)) is not None:
            return self._may_reach(str(carried))
        if any(address in network for network in self._networks if network.version == address.version):
            return True
        return address.is_global and not address.is_multicast

    def _why(self, where: str) -> str:
        return f"{where} is not a public address, nor in a network that WEBHOOK_NETWORKS names."


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a gateway makes of it (RFC 4291, 3056, 6052): what counts is where the packets end."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else None


def _cut(opened: socket.socket) -> None:
    try:
        opened.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself


def _words(exc: Exception) -> str:
    if isinstance(exc, _Refused):
        return str(exc)
    if isinstance(exc, TimeoutError):
        return "It did not answer in time."
    return f"{type(exc).__name__}: {exc}"[:300]
