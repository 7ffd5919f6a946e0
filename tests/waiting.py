"""Waiting for a condition instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout_s: float = 10.0, *, every_s: float = 0.05, what: str = "") -> T:
    """Call ``predicate`` until it answers something true, and return that; AssertionError after ``timeout_s``.

    An exception of the predicate passes through at once: a condition that cannot be asked is a failure, not a delay.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            msg = f"not within {timeout_s:g} s: {what or getattr(predicate, '__name__', predicate)} (last answer: {answer!r})"
            raise AssertionError(msg)
        time.sleep(every_s)
