"""One OpenStack service over HTTP: a request a call, measured, with refusals as this system's errors."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import requests
from keystoneauth1 import exceptions as ksa
from keystoneauth1.adapter import Adapter

from shared.domain.clusters import Scope
from shared.errors import CloudError
from shared.observability.metrics import CLOUD_CALL_SECONDS
from shared.openstack.connection import Sessions
from shared.openstack.errors import error_of, translate
from shared.openstack.retry import reading


class Wire:
    """A service of the catalog, as one project's credentials reach it.

    ``label`` names it in metrics, ``pattern`` turns a path into a label that takes few values.
    """

    def __init__(
        self,
        sessions: Sessions,
        scope: Scope,
        service: str,
        *,
        label: str,
        pattern: Callable[[str], str],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._sessions = sessions
        self._scope = scope
        self._service = service
        self._label = label
        self._pattern = pattern
        self._headers = {"Accept": "application/json", **(headers or {})}

    def read(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """GET; passing errors are tried again for a few seconds."""

        def once() -> dict[str, Any]:
            return self._call("GET", path, mutating=False, params=query)

        return reading(once)

    def ask(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A question that takes a body and changes nothing."""
        return self._call(method, path, mutating=False, json=body)

    def write(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """A change. It is sent once: whether it was executed, an error's ``executed`` says."""
        return self._call(method, path, mutating=True, json=body)

    def _call(self, method: str, path: str, *, mutating: bool, **kwargs: Any) -> dict[str, Any]:
        adapter = Adapter(
            session=self._sessions.session(self._scope),
            service_type=self._service,
            interface=self._sessions.settings.interface,
            region_name=self._scope.region,
        )
        operation = f"{method} {self._pattern(path)}"
        started = time.perf_counter()
        outcome = "error"
        try:
            # One sending per call: no retries by keystoneauth. (After a 401 it signs in again and repeats, which is safe:
            # a refused request was not executed.)
            response: requests.Response = adapter.request(
                path, method, headers=dict(self._headers), raise_exc=False, connect_retries=0, status_code_retries=0, **kwargs
            )
            outcome = str(response.status_code)
        except ksa.ClientException as exc:
            raise translate(exc, mutating=mutating) from exc
        finally:
            CLOUD_CALL_SECONDS.labels(self._label, operation, outcome).observe(time.perf_counter() - started)
        if response.status_code >= 400:  # noqa: PLR2004
            raise error_of(response, mutating=mutating)
        if not response.content:
            return {}
        try:
            answer = response.json()
        except ValueError as exc:
            msg = f"The answer of {self._label} to {operation} is not JSON: {response.text[:200]!r}"
            raise CloudError(msg, executed=None if mutating else False, upstream_status=response.status_code) from exc
        return answer if isinstance(answer, dict) else {}
