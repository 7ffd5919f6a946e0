"""What tests of the API talk through."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from shared.bootstrap import Container
from shared.domain.clusters import Scope
from shared.errors import NotAuthenticated
from tests.builders import REGION, TEMPLATE_NAME
from tests.fake_cloud import FakeCloud

USER = "94c8a52f47d043e8a2b07acdd9d03fab"


@dataclass
class Tokens:
    """Keystone, as far as the API asks it: says what a token means. `known` is by token: roles and project."""

    known: dict[str, tuple[tuple[str, ...], str | None]] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    def issue(self, roles: tuple[str, ...], project_id: str | None, user: str = USER) -> str:
        token = f"gAAAAAB-{'-'.join(roles) or 'none'}-{project_id}-{user}"
        self.known[token] = (roles, project_id)
        self.users[token] = user
        return token

    def __call__(self, token: str) -> Mapping[str, Any]:
        self.asked += 1
        if token not in self.known:
            raise NotAuthenticated("Keystone does not accept this token.", reason="TOKEN_INVALID")
        roles, project_id = self.known[token]
        data: dict[str, Any] = {
            "user": {"id": self.users[token], "name": "operator"},
            "roles": [{"name": role} for role in roles],
            "expires_at": (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        if project_id:
            data["project"] = {"id": project_id, "name": "kcloud"}
        return data


@dataclass
class Caller:
    """A client with a token."""

    client: FlaskClient
    token: str | None

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
        content_type: str | None = "application/json",
    ) -> TestResponse:
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("X-Auth-Token", self.token)
        data = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
        return self.client.open(
            path, method=method, headers=sent, data=data, content_type=content_type if data is not None else None
        )


@dataclass
class World:
    """The wired product, its cloud, and its application."""

    container: Container
    cloud: FakeCloud
    app: Flask
    tokens: Tokens

    def caller(self, role: str | None, project_id: str | None, *, user: str = USER) -> Caller:
        """A client whose token has this role (None: no role) in this project (None: in no project)."""
        return Caller(self.app.test_client(), self.tokens.issue((role,) if role else (), project_id, user))

    def stranger(self) -> Caller:
        """A client without a token."""
        return Caller(self.app.test_client(), None)

    def counts(self) -> tuple[int, int, int]:
        """Rows of clusters, jobs and idempotency keys: what a refused request must not change."""
        with self.container.database.engine.connect() as connection:
            found = [
                connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
                for table in ("clusters", "jobs", "idempotency_keys")
            ]
        return found[0], found[1], found[2]

    def run(self, job_id: str) -> None:
        """A worker takes the job."""
        self.container.runner().run(UUID(job_id))

    def finish(self, job_id: str, project_id: str) -> None:
        """A worker takes the job, the cloud is at once done with it, and a tick sees that."""
        self.run(job_id)
        self.cloud.advance()
        self.cloud.settle()
        self.look(project_id)

    def complete(self, job_id: str, project_id: str) -> dict[str, Any]:
        """Workers and ticks until the job has ended, however many calls it takes; the job as the API shows it."""
        job: dict[str, Any] = {}
        for _ in range(10):
            self.finish(job_id, project_id)
            job = self.caller("reader", project_id)("GET", f"/jobs/{job_id}").get_json()
            if job["finished_at"]:
                return job
        msg = f"the job does not end: {job}"
        raise AssertionError(msg)

    def hurry(self, job_id: str) -> None:
        """The time that a job waits for passes: its grace for a lost answer too."""
        with self.container.database.engine.begin() as connection:
            connection.execute(
                text("UPDATE jobs SET due_at = now() - interval '1 s', intent_at = intent_at - interval '60 s' WHERE id = :id"),
                {"id": job_id},
            )

    def forget_catalogs(self) -> None:
        """The application reads the cloud's templates anew."""
        self.container.catalogs.forget()

    def look(self, project_id: str) -> None:
        """A tick looks at the project."""
        with self.container.database.engine.begin() as connection:
            connection.execute(text("UPDATE scopes SET next_tick_at = now() - interval '1 hour', lease_expires_at = NULL"))
            connection.execute(
                text(
                    "UPDATE jobs SET look_at = now() - interval '1 hour', submitted_at = submitted_at - interval '16 seconds'"
                    " WHERE state = 'converging'"  # longer ago than Magnum's times, of whole seconds, are doubted
                )
            )
        self.container.converger().tick(Scope(REGION, project_id))


def a_body(name: str = "training", **changes: Any) -> dict[str, Any]:
    """A create request that is right."""
    body: dict[str, Any] = {
        "name": name,
        "cluster_template_id": TEMPLATE_NAME,
        "node_count": 4,
        "master_count": 1,
        "keypair": "kcloud-keypair",
        "labels": {"workload_type": "training", "gpu_type": "nvidia-a100"},
    }
    return body | changes


def problem(response: TestResponse, status: int, reason: str | None = None) -> dict[str, Any]:
    """The problem document of a refusal, after its form was checked."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = json.loads(response.data)
    assert {"type", "title", "status", "detail", "instance", "reason", "request_id"} <= body.keys()
    assert body["status"] == status
    assert body["type"].startswith("/problems/")
    assert body["request_id"] == response.headers["x-openstack-request-id"]
    if reason is not None:
        assert body["reason"] == reason, body
    return body


def problemless(response: TestResponse) -> dict[str, Any]:
    """The document of an answer that must be no refusal."""
    assert response.status_code < 300, response.text
    body: dict[str, Any] = json.loads(response.data)
    return body
