"""Scripted faults: which requests they meet, how often, and what happens to those.

Kinds: ``latency`` (seconds, before the work), ``status`` (an answer of 4xx/5xx instead of the work; optional retry_after),
``drop`` (the connection closes before the work), ``answer_lost`` (the work is done, then the connection closes), and for clusters
``stuck`` (stays in progress), ``fail`` (``operation`` create, update or delete, with ``reason``), ``leftovers`` (a delete leaves a
load balancer's port, a floating IP and a volume that carry the cluster's uuid). Immediate orders, which stand in
no list: ``expire_tokens``, ``conductor_down``/``conductor_up``, ``keystone_down``/``keystone_up``.
"""

import random
import re
import threading
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from simulator.http import Answer, Dropped, HttpError, Request

KINDS = ("latency", "status", "drop", "answer_lost", "stuck", "fail", "leftovers")
OPERATIONS = ("create", "update", "delete")


@dataclass
class Fault:
    """One scripted fault."""

    id: int
    kind: str
    match: dict[str, str]
    left: int | None  #: how often it still strikes; None: always
    probability: float
    status: int = 503
    seconds: float = 0.0
    retry_after: int | None = None
    operation: str = "create"
    reason: str = "Scripted failure."
    struck: int = 0
    patterns: dict[str, re.Pattern[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For the control endpoint."""
        return {
            "id": self.id,
            "kind": self.kind,
            "match": self.match,
            "left": self.left,
            "probability": self.probability,
            "struck": self.struck,
        }


class Faults:
    """All faults in force."""

    def __init__(self, seed: int = 1) -> None:
        self._list: list[Fault] = []
        self._random = random.Random(seed)  # noqa: S311 - chance, not cryptography
        self._numbers = count(1)
        self._lock = threading.Lock()

    def add(self, body: dict[str, Any]) -> Fault:
        """Script one. ValueError names what is wrong."""
        kind = body.get("kind")
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; known are {', '.join(KINDS)}")
        match = body.get("match") or {}
        unknown = set(match) - {"service", "method", "path", "name", "project"}
        if unknown:
            raise ValueError(f"match knows service, method, path, name and project, not {', '.join(sorted(unknown))}")
        patterns = {key: _pattern(key, match[key]) for key in ("path", "name") if key in match}
        operation = body.get("operation", "delete" if kind == "leftovers" else "create")
        if operation not in OPERATIONS:
            raise ValueError(f"operation is {operation!r}; known are {', '.join(OPERATIONS)}")
        made = Fault(
            id=next(self._numbers),
            kind=kind,
            match=match,
            left=None if body.get("count") is None else int(_number(body, "count", 0)),
            probability=_number(body, "probability", 1.0, most=1.0),
            status=int(_number(body, "status", 503, least=400, most=599)),
            seconds=_number(body, "seconds", 0.0),
            retry_after=None if body.get("retry_after") is None else int(_number(body, "retry_after", 0)),
            operation=operation,
            reason=str(body.get("reason", "Scripted failure.")),
            patterns=patterns,
        )
        with self._lock:
            self._list.append(made)
        return made

    def clear(self) -> None:
        """End all."""
        with self._lock:
            self._list.clear()

    def remove(self, number: int) -> bool:
        """End one."""
        with self._lock:
            before = len(self._list)
            self._list = [fault for fault in self._list if fault.id != number]
            return len(self._list) < before

    def listed(self) -> list[dict[str, Any]]:
        """Those in force."""
        return [fault.as_dict() for fault in self._list]

    def before(self, request: Request) -> bool:
        """Meet a request before its work. Raises where it goes no further; True where its answer is to be lost."""
        if not self._list:
            return False
        lost = False
        for fault in self._meeting(request):
            if fault.kind == "latency":
                time.sleep(fault.seconds)
            elif fault.kind == "status":
                raise HttpError(_status_answer(request, fault))
            elif fault.kind == "drop":
                raise Dropped
            else:
                lost = True
        return lost

    def cluster(self, kind: str, operation: str, name: str, project: str) -> Fault | None:
        """The fault that a cluster's operation meets, if any."""
        with self._lock:
            for fault in self._list:
                if fault.kind != kind or fault.operation != operation:
                    continue
                if "name" in fault.patterns and not fault.patterns["name"].search(name):
                    continue
                if fault.match.get("project", project) == project and self._strikes(fault):
                    return fault
        return None

    def _meeting(self, request: Request) -> list[Fault]:
        with self._lock:
            return [
                fault
                for fault in self._list
                if fault.kind in {"latency", "status", "drop", "answer_lost"} and _meets(fault, request) and self._strikes(fault)
            ]

    def _strikes(self, fault: Fault) -> bool:
        if fault.left == 0 or self._random.random() >= fault.probability:
            return False
        if fault.left is not None:
            fault.left -= 1
        fault.struck += 1
        return True


def _number(body: dict[str, Any], name: str, default: float, *, least: float = 0.0, most: float = 1e9) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}; it is a number from {least:g} to {most:g}")
    return value


def _pattern(name: str, value: Any) -> re.Pattern[str]:
    try:
        return re.compile(str(value))
    except re.error as exc:
        raise ValueError(f"match.{name} is {value!r}, which is no regular expression: {exc}") from None


def _meets(fault: Fault, request: Request) -> bool:
    match = fault.match
    return (
        match.get("service", request.service) == request.service
        and match.get("method", request.method) == request.method
        and ("path" not in fault.patterns or fault.patterns["path"].search(request.path) is not None)
    )


def _status_answer(request: Request, fault: Fault) -> Answer:
    headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
    if fault.status in {502, 503, 504}:  # what a proxy in front answers
        page = f"<html><body><h1>{fault.status} Service Unavailable</h1></body></html>".encode()
        return Answer(fault.status, page, {"Content-Type": "text/html", **headers})
    if request.service == "magnum":
        words = fault.reason
        error = {"request_id": "", "code": "server", "status": fault.status, "title": words, "detail": words, "links": []}
        return Answer(fault.status, {"errors": [error]}, headers)
    return Answer(fault.status, {"error": {"code": fault.status, "title": "Error", "message": fault.reason}}, headers)
