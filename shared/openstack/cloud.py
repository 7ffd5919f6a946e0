"""All scopes this installation can act in (the port ``Cloud``)."""

import threading
import time
from urllib.parse import quote

from keystoneauth1 import exceptions as ksa
from keystoneauth1.adapter import Adapter
from keystoneauth1.session import Session
from keystoneauth1.token_endpoint import Token as TokenEndpoint

from shared.domain.clusters import Scope
from shared.errors import CloudAuthFailed, CloudError, CloudUnavailable
from shared.openstack.connection import FindCredential, Sessions
from shared.openstack.heat import HeatGateway
from shared.openstack.magnum import SERVICE, MagnumGateway, highest_version, supported_version
from shared.settings import CloudSettings

_CAN_ACT_TTL_S = 300.0
_CANNOT_ACT_TTL_S = 10.0
_WATCHED = {
    "identity": "identity",
    "magnum": SERVICE,
    "nova": "compute",
    "glance": "image",
    "neutron": "network",
    "heat": "orchestration",
}


class OpenStackCloud:
    """Gateways by scope, over shared sessions."""

    def __init__(self, settings: CloudSettings, find_credential: FindCredential) -> None:
        self._settings = settings
        self._sessions = Sessions(settings, find_credential)
        self._verdicts: dict[Scope, tuple[bool, float]] = {}
        self._version: str | None = None
        self._lock = threading.Lock()

    def gateway(self, scope: Scope) -> MagnumGateway:
        """The gateway of one scope."""
        return MagnumGateway(self._sessions, scope, version=self._magnum_version())

    def stacks(self, scope: Scope) -> HeatGateway:
        """Heat of one scope."""
        return HeatGateway(self._sessions, scope)

    def can_act(self, scope: Scope) -> bool:
        """Whether some credential of ours reaches the project. Remembered for minutes, a refusal for seconds."""
        held = self._verdicts.get(scope)
        if held and held[1] > time.monotonic():
            return held[0]
        try:
            self._sessions.session(scope)
        except CloudAuthFailed:
            verdict, ttl = False, _CANNOT_ACT_TTL_S
        else:
            verdict, ttl = True, _CAN_ACT_TTL_S
        self._verdicts[scope] = (verdict, time.monotonic() + ttl)
        return verdict

    def forget(self, scope: Scope) -> None:
        """The scope's credentials changed."""
        self._sessions.forget(scope)
        self._verdicts.pop(scope, None)

    def project_of(self, application_credential_id: str, secret: str) -> str:
        """The project that an application credential belongs to."""
        return self._sessions.project_of(application_credential_id, secret)

    def groups_of(self, user_id: str, token: str) -> list[str]:
        """The ids of the user's groups. Keystone lets every user list his own (identity:list_groups_for_user)."""
        address = f"{self._settings.auth_url.rstrip('/')}/users/{quote(user_id, safe='')}/groups"
        plugin = TokenEndpoint(address, token)
        session = Session(auth=plugin, verify=self._settings.cacert or True, timeout=self._settings.timeout_s)
        try:
            response = session.get(address, connect_retries=0)
        except (ksa.Unauthorized, ksa.Forbidden, ksa.NotFound):
            return []  # a token that may not ask, such as one limited by access rules, has no group's rights either
        except ksa.ClientException as exc:
            msg = f"Keystone does not tell the user's groups: {exc}"
            raise CloudUnavailable(msg) from exc
        return [group["id"] for group in response.json().get("groups", [])]

    def own_scope(self) -> Scope:
        """The service's own project."""
        session = self._sessions.own()
        try:
            project = session.get_project_id()
        except ksa.ClientException as exc:
            msg = f"Keystone does not tell the service's project: {exc}"
            raise CloudError(msg) from exc
        return Scope(self._settings.region, project or "")

    def ping(self) -> dict[str, str]:
        """Each service of the catalog: "up", or what went wrong. Services that the catalog lacks are left out."""
        try:
            session = self._sessions.own()
        except CloudError as exc:
            return {"identity": exc.detail[:200]}
        states: dict[str, str] = {}
        for name, service in _WATCHED.items():
            adapter = Adapter(
                session=session, service_type=service, interface=self._settings.interface, region_name=self._settings.region
            )
            try:
                endpoint = adapter.get_endpoint()
                if endpoint is None:
                    continue
                response = session.get(endpoint, authenticated=False, raise_exc=False, timeout=3, connect_retries=0)
                states[name] = "up" if response.status_code < 500 else f"HTTP {response.status_code}"  # noqa: PLR2004
            except ksa.EndpointNotFound:
                continue
            except ksa.ClientException as exc:
                states[name] = str(exc)[:200]
        return states

    def _magnum_version(self) -> str:
        wanted = self._settings.magnum_api_version
        if self._version is None:
            with self._lock:
                if self._version is None:
                    self._version = self._negotiate(wanted)
        return self._version

    def _negotiate(self, wanted: str) -> str:
        if wanted == "1.10":  # every release that can be used has it: no question needed
            return wanted
        adapter = Adapter(
            session=self._sessions.own(),
            service_type=SERVICE,
            interface=self._settings.interface,
            region_name=self._settings.region,
        )
        try:
            return supported_version(wanted, highest_version(adapter))
        except ksa.ClientException:
            return supported_version(wanted, None)
