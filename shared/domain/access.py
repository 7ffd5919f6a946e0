"""Grants: rights on one cluster, besides the roles in its project.

A grant only adds. It reaches those who hold a token of the cluster's own project: what is another project's stays unseen.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class SubjectType(StrEnum):
    """Whom a grant is for."""

    USER = "user"
    GROUP = "group"  #: a Keystone group


class GrantRole(StrEnum):
    """What a grant allows; each includes the one before."""

    VIEWER = "viewer"  #: look at the cluster, its metrics, costs and jobs
    OPERATOR = "operator"  #: scale it, change its node groups, hibernate, wake and upgrade it, get a kubeconfig
    OWNER = "owner"  #: delete it, and give and take grants

    @property
    def rank(self) -> int:
        """Higher ranks include lower ones."""
        return list(GrantRole).index(self)


@dataclass(frozen=True, slots=True)
class Grant:
    """One role of one user or group on a cluster."""

    subject_type: SubjectType
    subject_id: str
    role: GrantRole
    granted_by: str
    created_at: datetime


#: The least role of a grant that allows what the rule guards. What is not here no grant allows.
LEAST: Final[dict[str, GrantRole]] = {
    "clusters:get": GrantRole.VIEWER,
    "clusters:metrics": GrantRole.VIEWER,
    "clusters:costs": GrantRole.VIEWER,
    "scaling:get": GrantRole.VIEWER,
    "scaling:change": GrantRole.OPERATOR,
    "cleanup:get": GrantRole.VIEWER,
    "cleanup:hold": GrantRole.OPERATOR,
    "cleanup:cancel": GrantRole.OPERATOR,
    "node_groups:list": GrantRole.VIEWER,
    "jobs:get": GrantRole.VIEWER,
    "grants:list": GrantRole.VIEWER,
    "clusters:scale": GrantRole.OPERATOR,
    "clusters:hibernate": GrantRole.OPERATOR,
    "clusters:upgrade": GrantRole.OPERATOR,
    "clusters:kubeconfig": GrantRole.OPERATOR,
    "node_groups:change": GrantRole.OPERATOR,
    "jobs:cancel": GrantRole.OPERATOR,
    "clusters:delete": GrantRole.OWNER,
    "grants:change": GrantRole.OWNER,
}


def allows(rule: str, roles: list[GrantRole]) -> bool:
    """Whether one of these grants suffices for the rule."""
    least = LEAST.get(rule)
    return least is not None and any(role.rank >= least.rank for role in roles)
