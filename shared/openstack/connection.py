"""Sessions of each scope: credentials chosen, tokens shared between threads, connections not.

keystoneauth's plugins hold the token behind a lock and may be shared; a requests session may not. So each thread has its
own session (and openstacksdk connection) per scope, and all of them share the scope's plugin: one token a scope, not one
a thread. Tokens live in memory only.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from keystoneauth1 import exceptions as ksa
from keystoneauth1.identity import v3
from keystoneauth1.identity.base import BaseIdentityPlugin
from keystoneauth1.session import Session

from shared.domain.clusters import Scope
from shared.errors import CloudAuthFailed
from shared.openstack.errors import translate
from shared.settings import CloudSettings

if TYPE_CHECKING:
    from openstack.connection import Connection

#: A function from a scope to the application credential registered for it: (id, secret), or None.
FindCredential = Callable[[Scope], tuple[str, str] | None]

_SESSIONS_PER_THREAD = 16
_PLUGIN_TTL_S = 600.0
_REFUSAL_TTL_S = 10.0
_USER_AGENT = "kcloud-infrastructure"


class Sessions:
    """Hands out sessions. Safe to use from many threads."""

    def __init__(self, settings: CloudSettings, find_credential: FindCredential) -> None:
        self.settings = settings
        self._find_credential = find_credential
        self._plugins: OrderedDict[Scope, tuple[BaseIdentityPlugin, float]] = OrderedDict()
        self._refused: dict[Scope, float] = {}
        self._lock = threading.Lock()
        self._local = threading.local()

    def plugin(self, scope: Scope) -> BaseIdentityPlugin:
        """The scope's credentials: an application credential registered for it, else the service's user in its project."""
        now = time.monotonic()
        with self._lock:
            held = self._plugins.get(scope)
            if held and held[1] > now:
                return held[0]
        credential = self._find_credential(scope)
        settings = self.settings
        if credential:
            fresh: BaseIdentityPlugin = v3.ApplicationCredential(
                settings.auth_url, application_credential_id=credential[0], application_credential_secret=credential[1]
            )
        else:
            fresh = v3.Password(
                settings.auth_url,
                username=settings.username,
                password=settings.password,
                user_domain_name=settings.user_domain_name,
                project_id=scope.project_id,
            )
        with self._lock:
            self._plugins[scope] = (fresh, now + _PLUGIN_TTL_S)
            while len(self._plugins) > 1000:  # noqa: PLR2004 - a bound, not a figure of meaning
                self._plugins.popitem(last=False)
        return fresh

    def forget(self, scope: Scope) -> None:
        """The scope's credentials changed."""
        with self._lock:
            self._plugins.pop(scope, None)
            self._refused.pop(scope, None)

    def session(self, scope: Scope) -> Session:
        """This thread's session for the scope, with a valid token. Raises :class:`CloudError` where none can be had."""
        plugin = self.plugin(scope)
        held: OrderedDict[Scope, Session] = self._of_thread()
        session = held.get(scope)
        if session is None or session.auth is not plugin:
            session = self._new(plugin)
            held[scope] = session
            while len(held) > _SESSIONS_PER_THREAD:
                _, old = held.popitem(last=False)
                old.session.close()
        held.move_to_end(scope)
        self._ensure_token(session, scope)
        return session

    def _ensure_token(self, session: Session, scope: Scope) -> None:
        if self._refused.get(scope, 0.0) > time.monotonic():
            msg = "Keystone refused this service a token for the project a moment ago."
            raise CloudAuthFailed(msg, hint="Give the service's user a role in the project, or register a credential.")
        try:
            session.get_token()
        except ksa.ClientException as exc:
            error = translate(exc, mutating=False)
            if isinstance(error, CloudAuthFailed):
                self._refused[scope] = time.monotonic() + _REFUSAL_TTL_S
            raise error from exc

    def project_of(self, application_credential_id: str, secret: str) -> str:
        """Sign in with an application credential, once, and tell its project."""
        plugin = v3.ApplicationCredential(
            self.settings.auth_url,
            application_credential_id=application_credential_id,
            application_credential_secret=secret,
        )
        try:
            return self._new(plugin).get_project_id() or ""
        except ksa.ClientException as exc:
            raise translate(exc, mutating=False) from exc

    def own(self) -> Session:
        """A session of the service's user in its own project, for questions about the cloud itself."""
        held = getattr(self._local, "own", None)
        if held is None:
            held = self._new(self._own_plugin())
            self._local.own = held
        session: Session = held
        try:
            session.get_token()
        except ksa.ClientException as exc:
            raise translate(exc, mutating=False) from exc
        return session

    def _own_plugin(self) -> BaseIdentityPlugin:
        settings = self.settings
        with self._lock:
            plugin: BaseIdentityPlugin | None = getattr(self, "_own", None)
            if plugin is None:
                plugin = v3.Password(
                    settings.auth_url,
                    username=settings.username,
                    password=settings.password,
                    user_domain_name=settings.user_domain_name,
                    project_name=settings.project_name,
                    project_domain_name=settings.project_domain_name,
                )
                self._own = plugin
        return plugin

    def connection(self, session: Session) -> "Connection":
        """Openstacksdk over a session."""
        from openstack.connection import Connection  # 0.3 s, which the relay and a start never need

        return Connection(session=session, region_name=self.settings.region, interface=self.settings.interface)

    def _new(self, plugin: BaseIdentityPlugin) -> Session:
        settings = self.settings
        return Session(
            auth=plugin, timeout=settings.timeout_s, verify=settings.cacert or True, additional_user_agent=[(_USER_AGENT, "1")]
        )

    def _of_thread(self) -> "OrderedDict[Scope, Session]":
        held: OrderedDict[Scope, Session] | None = getattr(self._local, "sessions", None)
        if held is None:
            held = OrderedDict()
            self._local.sessions = held
        return held
