"""Heat over HTTP (the port ``StackGateway``), and what else a stack's owner must know of the network."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from keystoneauth1 import exceptions as ksa

from shared.domain.clusters import Scope
from shared.domain.stacks import TAG, Leftover, ObservedStack, StackResource
from shared.errors import CloudError, CloudNotFound, CloudRejected
from shared.openstack.connection import Sessions
from shared.openstack.errors import translate
from shared.openstack.wire import Wire

if TYPE_CHECKING:
    from openstack.connection import Connection

_NO_STATUS = "UNKNOWN"


class HeatGateway:
    """One project's Heat in one region."""

    def __init__(self, sessions: Sessions, scope: Scope) -> None:
        self._heat = Wire(sessions, scope, "orchestration", label="heat", pattern=_pattern)
        self._sessions = sessions
        self._scope = scope

    def get(self, ref: str) -> ObservedStack | None:
        """One stack by id or by name; None where there is none. A deleted one is shown by its id only (Heat shows it by its name too)."""
        try:
            seen = _stack(self._heat.read(f"/stacks/{ref}", {"resolve_outputs": "True"})["stack"])
        except CloudNotFound:
            return None
        return None if seen.status == "DELETE_COMPLETE" and seen.id != ref else seen

    def listed(self) -> list[ObservedStack]:
        """All stacks of ours that are not deleted, without outputs: one request however many there are."""
        listed = [_stack(body) for body in self._heat.read("/stacks", {"tags": TAG}).get("stacks", [])]
        return [stack for stack in listed if stack.status != "DELETE_COMPLETE"]  # with tags, Heat also lists what is deleted

    def create(self, name: str, template: str, parameters: Mapping[str, Any], *, timeout_minutes: int) -> str:
        """Ask for a stack; its id. What a failed one made stays, so that its reason can be seen, until it is deleted."""
        body = {
            "stack_name": name,
            "template": template,
            "parameters": dict(parameters),
            "timeout_mins": timeout_minutes,
            "disable_rollback": True,
            "tags": TAG,
        }
        made = self._heat.write("POST", "/stacks", body).get("stack", {}).get("id")
        if not isinstance(made, str):
            msg = "Heat accepted the stack without telling its id."
            raise CloudError(msg, executed=None)
        return made

    def update(self, ref: str, name: str, template: str, parameters: Mapping[str, Any], *, timeout_minutes: int) -> None:
        """Ask that a stack become what the template and parameters say."""
        body = {
            "template": template,
            "parameters": dict(parameters),
            "timeout_mins": timeout_minutes,
            "disable_rollback": True,
            "tags": TAG,
        }
        self._heat.write("PUT", f"/stacks/{name}/{ref}", body)

    def delete(self, ref: str, name: str) -> bool:
        """Ask for removal; False where there was nothing to remove."""
        try:
            self._heat.write("DELETE", f"/stacks/{name}/{ref}", None)
        except CloudNotFound:
            return False
        except CloudRejected:
            # Heat purges what it deleted in the background; a request that meets it half-way gets 400 with an AttributeError.
            seen = self.get(ref)
            if seen is None or seen.status == "DELETE_COMPLETE":
                return False
            raise
        return True

    def preview(self, name: str, template: str, parameters: Mapping[str, Any]) -> list[StackResource]:
        """What a new stack would make. Raises CloudRejected with Heat's words where the template or a parameter is wrong."""
        body = {"stack_name": name, "template": template, "parameters": dict(parameters), "disable_rollback": True}
        answer = self._heat.ask("POST", "/stacks/preview", body)
        return list(_previewed(answer.get("stack", {}).get("resources", [])))

    def preview_update(self, ref: str, name: str, template: str, parameters: Mapping[str, Any]) -> dict[str, list[StackResource]]:
        """What an update would do: resources that are added, deleted, replaced, updated and unchanged."""
        body = {"template": template, "parameters": dict(parameters), "disable_rollback": True}
        changes = self._heat.ask("PUT", f"/stacks/{name}/{ref}/preview", body).get("resource_changes", {})
        return {kind: list(_previewed(changes.get(kind, []))) for kind in ("added", "deleted", "replaced", "updated", "unchanged")}

    def resources(self, ref: str, name: str) -> list[StackResource]:
        """What the stack made, those inside of others too."""
        body = self._heat.read(f"/stacks/{name}/{ref}/resources", {"nested_depth": 2})
        return [
            StackResource(
                name=item.get("resource_name") or "",
                type=item.get("resource_type") or "",
                status=item.get("resource_status") or _NO_STATUS,
                physical_id=item.get("physical_resource_id") or None,
                reason=item.get("resource_status_reason") or None,
            )
            for item in body.get("resources", [])
        ]

    def subnets(self) -> list[tuple[str, str]]:
        """Name (or id) and address range of each IPv4 subnet that the project sees."""
        try:
            found = list(self._connection().network.subnets(ip_version=4))
        except ksa.ClientException as exc:
            raise translate(exc, mutating=False) from exc
        return [(item.name or item.id, item.cidr) for item in found]

    def external_networks(self) -> list[str]:
        """Names of the networks through which routers reach the outside."""
        try:
            found = list(self._connection().network.networks(is_router_external=True))
        except ksa.ClientException as exc:
            raise translate(exc, mutating=False) from exc
        return [item.name or item.id for item in found]

    def carrying(self, marks: Sequence[str]) -> dict[str, list[Leftover]]:
        """One list of each kind, however many marks. Services that the catalog lacks have nothing."""
        connection = self._connection()
        found: dict[str, list[Leftover]] = {}
        try:
            kinds: dict[str, Iterable[Any]] = {
                "port": connection.network.ports(),
                "floating_ip": connection.network.ips(),
            }
            if connection.has_service("load-balancer"):
                kinds["load_balancer"] = connection.load_balancer.load_balancers()
            if connection.has_service("block-storage"):
                kinds["volume"] = connection.block_storage.volumes(details=True)
            for kind, items in kinds.items():
                for item in items:
                    words = _words_of(item)
                    for mark in marks:
                        if mark in words:
                            one = Leftover(kind, item.id, item.name or "", getattr(item, "status", None))
                            found.setdefault(mark, []).append(one)
        except ksa.ClientException as exc:
            raise translate(exc, mutating=False) from exc
        return found

    def _connection(self) -> "Connection":
        return self._sessions.connection(self._sessions.session(self._scope))


def _words_of(item: Any) -> str:
    tags = " ".join(getattr(item, "tags", None) or ())
    metadata = " ".join(str(value) for value in (getattr(item, "metadata", None) or {}).values())
    return " ".join([item.name or "", getattr(item, "description", None) or "", tags, metadata])


def _previewed(items: Any) -> Any:
    for item in items:
        if isinstance(item, list):  # a nested stack's own resources
            yield from _previewed(item)
            continue
        yield StackResource(
            name=item.get("resource_name") or item.get("name") or "",
            type=item.get("resource_type") or "",
            status=item.get("resource_action") or item.get("resource_status") or "INIT",
            physical_id=item.get("physical_resource_id") or None,
        )


def _stack(body: Mapping[str, Any]) -> ObservedStack:
    return ObservedStack(
        id=body["id"],
        name=body.get("stack_name") or "",
        status=body.get("stack_status") or _NO_STATUS,
        status_reason=body.get("stack_status_reason") or None,
        outputs={one["output_key"]: one.get("output_value") for one in body.get("outputs") or []},
        updated_at=_time(body.get("updated_time")),
        created_at=_time(body.get("creation_time")),
        parameters=dict(body.get("parameters") or {}),
        tags=tuple(body.get("tags") or ()),
    )


def _pattern(path: str) -> str:
    parts = path.split("/")
    kept = {"stacks", "preview", "resources"}
    return "/".join(part if part in kept or not part else "{id}" for part in parts)


def _time(words: str | None) -> datetime | None:
    if not words:
        return None
    moment = datetime.fromisoformat(words)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
