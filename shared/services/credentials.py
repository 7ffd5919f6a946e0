"""Application credentials that a project registers, so that jobs run in it as itself. Kept encrypted, never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken

from shared.domain.clusters import Scope
from shared.errors import CloudError, ConfigurationError, Conflict, FieldError, InvalidRequest, Unavailable
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from shared.db.uow import Database
    from shared.domain.ports import Actor, Cloud

log = get_logger(__name__)


class Vault:
    """Encrypts with the installation's key (Fernet: AES-128-CBC with HMAC-SHA256)."""

    def __init__(self, key: str | None) -> None:
        try:
            self._fernet = Fernet(key.encode()) if key else None
        except ValueError as exc:
            msg = "KCLOUD_SECRET_KEY is not a Fernet key: 32 bytes in URL-safe base64."
            raise ConfigurationError(msg) from exc

    def seal(self, secret: str) -> bytes:
        """The secret as stored. Raises Conflict where the installation has no key."""
        if self._fernet is None:
            msg = "This installation keeps no credentials: KCLOUD_SECRET_KEY is not set."
            raise Conflict(msg, reason="NO_SECRET_KEY", hint="Ask the operator to set KCLOUD_SECRET_KEY.")
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes) -> str | None:
        """The secret; None where the key does not fit (it was changed)."""
        if self._fernet is None:
            return None
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            return None


class Credentials:
    """Finds a scope's registered credential, for the gateway."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def find(self, scope: Scope) -> tuple[str, str] | None:
        """Id and secret in clear, in memory only; None where none is registered or it can't be read."""
        with self._database.single() as uow:
            row = uow.scopes.credential(scope)
        if row is None:
            return None
        secret = self._vault.open(row[1])
        if secret is None:
            log.error("credentials.unreadable", project=scope.project_id)
            return None
        return row[0], secret


class CredentialService:
    """Register, look at and remove the actor's project's credential."""

    def __init__(self, database: Database, vault: Vault, cloud: Cloud, *, region: str) -> None:
        self._database = database
        self._vault = vault
        self._cloud = cloud
        self._region = region

    def register(self, actor: Actor, *, application_credential_id: str, secret: str) -> dict[str, Any]:
        """Keep a credential, after Keystone has taken it and said that it is this project's."""
        scope = Scope(self._region, actor.project_id)
        sealed = self._vault.seal(secret)
        try:
            project = self._cloud.project_of(application_credential_id, secret)
        except CloudError as exc:
            if exc.retryable:
                raise Unavailable(exc.detail, reason=exc.reason, retry_after_s=10) from exc
            words = f"Keystone refuses this credential: {exc.detail}"
            raise InvalidRequest(words, errors=[FieldError("application_credential_id", "accepted", words)]) from exc
        if project != actor.project_id:
            words = "This credential belongs to another project."
            raise InvalidRequest(words, errors=[FieldError("application_credential_id", "project", words)])
        with self._database.begin() as uow:
            uow.scopes.put_credential(scope, application_credential_id, sealed, actor.user_id)
        self._cloud.forget(scope)
        log.info("credentials.registered", project=scope.project_id, by=actor.user_id)
        found = self.get(actor)
        return found or {}

    def get(self, actor: Actor) -> dict[str, Any] | None:
        """What is registered, without its secret."""
        with self._database.single() as uow:
            row = uow.scopes.credential(Scope(self._region, actor.project_id))
        if row is None:
            return None
        return {
            "project_id": actor.project_id,
            "region": self._region,
            "application_credential_id": row[0],
            "registered_by": row[2],
            "created_at": row[3],
        }

    def remove(self, actor: Actor) -> bool:
        """Forget it; False where there was none."""
        scope = Scope(self._region, actor.project_id)
        with self._database.begin() as uow:
            removed = uow.scopes.drop_credential(scope)
        self._cloud.forget(scope)
        return removed
