"""A look at the broker without Celery: is it there, and how much waits in it."""

from urllib.parse import parse_qs, urlsplit

import redis

from shared.errors import Unavailable


def redis_url(kombu_url: str) -> str:
    """The address as redis-py writes it: kombu says ``redis+socket:///path?virtual_host=1``, redis-py ``unix:///path?db=1``."""
    if not kombu_url.startswith("redis+socket://"):
        return kombu_url
    parts = urlsplit(kombu_url)
    database = parse_qs(parts.query).get("virtual_host", ["0"])[0].strip("/")
    credentials = f"{parts.netloc}" if parts.netloc else ""
    return f"unix://{credentials}{parts.path}?db={database or '0'}"


class BrokerProbe:
    """Asks the broker. Every question is bounded in time."""

    def __init__(self, kombu_url: str) -> None:
        self._client = redis.Redis.from_url(redis_url(kombu_url), socket_timeout=2, socket_connect_timeout=2)

    def __call__(self) -> str:
        """The word "up", or what is wrong."""
        try:
            self._client.ping()
        except redis.RedisError as exc:
            return str(exc)[:200] or type(exc).__name__
        return "up"

    def length(self, queue: str) -> int:
        """How many messages wait in a queue. Raises Unavailable where the broker is away."""
        try:
            return int(self._client.llen(queue))
        except redis.RedisError as exc:
            msg = f"The broker does not answer: {exc}"
            raise Unavailable(msg, reason="BROKER_UNAVAILABLE") from exc
