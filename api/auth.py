"""Who asks: from a Keystone token to an actor whose right to do the thing asked is checked.

keystonemiddleware validates tokens. What it found is remembered here in parsed form for a minute, because its own path
costs about 0.4 ms a request even where its cache knows the token, and its cache without memcached grows without bound.
The token itself is not kept: the key is its SHA-256.
"""

import hashlib
import logging
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from flask import request
from keystoneauth1 import exceptions as ksa
from oslo_config import cfg
from structlog.contextvars import bind_contextvars
from werkzeug.test import EnvironBuilder, run_wsgi_app

from api.policy import Policy
from shared.domain.ports import Actor
from shared.errors import Forbidden, NotAuthenticated, Unavailable
from shared.observability.logging import get_logger
from shared.settings import CloudSettings

with warnings.catch_warnings():
    # WebOb, which keystonemiddleware is built on, imports a module that Python 3.13 drops.
    warnings.simplefilter("ignore", DeprecationWarning)
    from keystonemiddleware import auth_token

log = get_logger(__name__)

#: How long a token is believed without asking Keystone again. So long does a revoked one keep working, at most.
TOKEN_TTL_S: Final = 60.0
TOKENS_MAX: Final = 10_000
TOKEN_LENGTH_MAX: Final = 8192  # gunicorn refuses longer header lines
_STRIPES: Final = 64
_QUIET = "keystonemiddleware.kcloud"


@dataclass(frozen=True, slots=True)
class Principal:
    """What a valid token says. ``until`` is on the monotonic clock, in seconds."""

    user_id: str
    user_name: str
    project_id: str | None
    roles: frozenset[str]
    until: float
    verdicts: dict[str, bool] = field(default_factory=dict)  #: rules asked so far; they live as long as this


class Validator(Protocol):
    """Asks Keystone about a token."""

    def __call__(self, token: str) -> Mapping[str, Any]:
        """The token's data. Raises NotAuthenticated, or Unavailable where Keystone can't be asked."""
        ...


class _NoCache:
    """Takes the place of the middleware's token cache; :class:`Tokens` has one in front of it."""

    def get(self, key: str) -> None:
        """Knows nothing."""

    def set(self, key: str, value: bytes, time: int = 0) -> None:
        """Keeps nothing."""


class KeystoneValidator:
    """keystonemiddleware's auth_token, asked through its WSGI interface with a request that is nothing but the token."""

    def __init__(self, settings: CloudSettings) -> None:
        # Its messages repeat what the answer says, one or more a refused token; those that matter are logged here.
        logging.getLogger(_QUIET).setLevel(logging.CRITICAL + 1)
        # Options of the plugin, such as the password, are "not known" to it until the plugin is loaded.
        logging.getLogger("keystonemiddleware._common.config").setLevel(logging.ERROR)
        conf = cfg.ConfigOpts()
        conf([], project="kcloud", default_config_files=[], default_config_dirs=[])
        options: dict[str, Any] = {
            "oslo_config_config": conf,
            "log_name": _QUIET,
            "auth_type": "v3password",  # like "password", without asking first which versions there are
            "auth_url": settings.auth_url,
            "username": settings.username,
            "password": settings.password,
            "user_domain_name": settings.user_domain_name,
            "project_name": settings.project_name,
            "project_domain_name": settings.project_domain_name,
            "region_name": settings.region,
            "interface": settings.interface,
            "cafile": settings.cacert,
            "www_authenticate_uri": settings.auth_url,
            "auth_version": "v3",
            "include_service_catalog": False,
            # Deferred, a token that can't be checked (503) looks like one that was refused (401).
            "delay_auth_decision": False,
            "http_connect_timeout": settings.timeout_s,
            "http_request_max_retries": 0,
            "cache": "kcloud.no_cache",
        }
        self._middleware = auth_token.AuthProtocol(self._accept, options)
        self._no_cache = _NoCache()

    def __call__(self, token: str) -> Mapping[str, Any]:
        """The token's data."""
        environ = EnvironBuilder(headers=[("X-Auth-Token", token)]).get_environ()
        found: dict[str, Any] = {}
        environ.update({"kcloud.no_cache": self._no_cache, "kcloud.found": found})
        try:
            _, status, _ = run_wsgi_app(self._middleware, environ)
        except ksa.ClientException as exc:
            raise _keystone_away(str(exc)) from exc
        if status.startswith("200"):
            return found
        if status.startswith("401"):
            raise NotAuthenticated(
                "Keystone does not accept this token: it is unknown, expired, revoked, or limited by access rules.",
                reason="TOKEN_INVALID",
                hint="Get a new one, for example with `openstack token issue`.",
            )
        raise _keystone_away(f"HTTP {status}")

    @staticmethod
    def _accept(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        environ["kcloud.found"].update(environ["keystone.token_info"]["token"])
        start_response("200 OK", [])
        return []


def _keystone_away(words: str) -> Unavailable:
    log.warning("auth.keystone_unavailable", detail=words[:300])
    return Unavailable("The token can't be checked: Keystone does not answer.", reason="KEYSTONE_UNAVAILABLE", retry_after_s=5)


class Tokens:
    """Principals by token: at most ``TOKENS_MAX`` of them, each for ``ttl_s`` and never beyond its token's expiry."""

    def __init__(self, validate: Validator, *, ttl_s: float = TOKEN_TTL_S, most: int = TOKENS_MAX) -> None:
        self._validate = validate
        self._ttl_s = ttl_s
        self._most = most
        self._held: dict[bytes, Principal] = {}
        self._guard = threading.Lock()
        # One thread asks about a token while others of the same wait for its answer.
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]

    def principal(self, token: str) -> Principal:
        """Whose token it is. Raises NotAuthenticated or Unavailable."""
        key = hashlib.sha256(token.encode("latin-1")).digest()
        held = self._held.get(key)
        if held is not None and held.until > time.monotonic():
            return held
        with self._stripes[key[0] % _STRIPES]:
            held = self._held.get(key)
            if held is not None and held.until > time.monotonic():
                return held
            fresh = self._parse(self._validate(token))
            self._keep(key, fresh)
            return fresh

    def _parse(self, data: Mapping[str, Any]) -> Principal:
        expires_at = datetime.fromisoformat(data["expires_at"])
        left = (expires_at - datetime.now(UTC)).total_seconds()
        user = data["user"]
        project = data.get("project") or {}
        return Principal(
            user_id=user["id"],
            user_name=user.get("name", ""),
            project_id=project.get("id"),
            roles=frozenset(role["name"].lower() for role in data.get("roles", ())),
            until=time.monotonic() + min(self._ttl_s, left),
        )

    def _keep(self, key: bytes, fresh: Principal) -> None:
        with self._guard:
            self._held.pop(key, None)  # to the end, so that the first is the oldest
            self._held[key] = fresh
            if len(self._held) <= self._most:
                return
            now = time.monotonic()
            for old in [name for name, one in self._held.items() if one.until <= now]:
                del self._held[old]
            while len(self._held) > self._most:
                del self._held[next(iter(self._held))]


class Grants(Protocol):
    """What grants on single clusters allow."""

    def allows(self, rule: str, actor: Actor, token: str, *, cluster: str | None, job: str | None) -> bool:
        """Whether one on the cluster (or on the job's) lets the actor do what the rule guards."""
        ...

    def made(self, actor: Actor, cluster_ref: str) -> bool:
        """Whether the actor made the cluster."""
        ...


class Guard:
    """Lets requests in."""

    def __init__(self, tokens: Tokens, policy: Policy, grants: Grants, *, keystone_url: str) -> None:
        self._tokens = tokens
        self._policy = policy
        self._grants = grants
        self._challenge = {"WWW-Authenticate": f'Keystone uri="{keystone_url}"'}

    def actor(self, rule: str, *, cluster: str | None = None, job: str | None = None) -> Actor:
        """The present request's caller, who satisfies ``rule`` by his roles, or by a grant on the cluster (or on the job's).

        Raises NotAuthenticated, Forbidden or Unavailable.
        """
        environ = request.environ
        token = environ.get("HTTP_X_AUTH_TOKEN", "").strip()
        if not token:
            raise NotAuthenticated(
                "The header X-Auth-Token is missing.",
                reason="TOKEN_MISSING",
                hint="Get a token from Keystone, for example with `openstack token issue`, and send it as X-Auth-Token.",
                headers=self._challenge,
            )
        principal = self._principal(token)
        allowed = principal.verdicts.get(rule)
        if allowed is None:
            allowed = self._decide(rule, principal)
        if principal.project_id is None:
            raise Forbidden(
                "The token is not scoped to a project.",
                reason="PROJECT_REQUIRED",
                hint="Ask Keystone for a token of a project (OS_PROJECT_NAME, or OS_PROJECT_ID).",
            )
        actor = Actor(principal.user_id, principal.project_id, principal.roles, principal.user_name, environ["kcloud.request_id"])
        if not allowed and not self._is_granted(rule, principal, actor, token, cluster, job):
            raise Forbidden(
                f"Your roles in the project ({', '.join(sorted(principal.roles)) or 'none'}) do not allow {rule}.",
                reason="POLICY",
                hint="Ask for the role member (to change things), reader (to look) or admin (for credentials) in the project, or its owner"
                " for a grant on the cluster.",
                rule=rule,
            )
        bind_contextvars(project_id=principal.project_id)
        return actor

    def _is_granted(self, rule: str, principal: Principal, actor: Actor, token: str, cluster: str | None, job: str | None) -> bool:
        if cluster is None and job is None:
            return False
        if self._grants.allows(rule, actor, token, cluster=cluster, job=job):
            return True
        if rule != "grants:change" or cluster is None or not self._decide("clusters:create", principal):
            return False
        return self._grants.made(actor, cluster)

    def open_to_all(self, rule: str) -> bool:
        """Whether the policy lets even a caller without a token do this."""
        return self._policy.allows(rule, {"roles": [], "user_id": None, "project_id": None})

    def _principal(self, token: str) -> Principal:
        if len(token) > TOKEN_LENGTH_MAX or not token.isascii() or not token.isprintable():
            raise NotAuthenticated("This is not a token.", reason="TOKEN_INVALID", headers=self._challenge)
        try:
            return self._tokens.principal(token)
        except NotAuthenticated as exc:
            exc.context["headers"] = self._challenge
            raise

    def _decide(self, rule: str, principal: Principal) -> bool:
        credentials = {"roles": sorted(principal.roles), "user_id": principal.user_id, "project_id": principal.project_id}
        allowed = self._policy.allows(rule, credentials)
        principal.verdicts[rule] = allowed
        return allowed
