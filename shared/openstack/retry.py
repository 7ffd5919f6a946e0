"""Retries inside one call, for reads alone: a changing call is never repeated blindly, the next attempt looks first.

Bounded in attempts and in seconds, with jitter, so that a task stays within its 30 s.
"""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from shared.errors import CloudError

T = TypeVar("T")
ATTEMPTS = 3
SECONDS = 6.0


def _passing(exc: BaseException) -> bool:
    return isinstance(exc, CloudError) and exc.retryable and exc.reason != "CLOUD_THROTTLED"


def reading(call: Callable[[], T]) -> T:
    """Make a call that changes nothing; passing errors are tried again up to three times in six seconds."""
    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(SECONDS),
        wait=wait_random_exponential(multiplier=0.15, max=1.5),
        retry=retry_if_exception(_passing),
        reraise=True,
    )
    return retrying(call)


def backoff_s(attempt: int, *, maximum_s: float = 60.0) -> float:
    """How long a job waits before its next attempt: doubling, jittered to between half and the whole."""
    wait = wait_random_exponential(multiplier=0.5, max=maximum_s)
    ceiling = min(0.5 * 2.0**attempt, maximum_s)
    drawn = wait(_State(attempt + 1))  # type: ignore[arg-type]  # tenacity reads the attempt's number alone
    return max(drawn, ceiling / 2)


class _State:
    """The one attribute of tenacity's RetryCallState that its wait strategies read."""

    def __init__(self, attempt_number: int) -> None:
        self.attempt_number = attempt_number
