"""From the cloud's words to a stable reason code and a hint.

The words were read in Magnum, Heat, Nova and Cluster API sources and in the threads that FACTS.md (B5) lists. The first
pattern that matches wins; where none does, the operation's own code stands and the words speak for themselves.
"""

import re
from typing import Final, NamedTuple

from shared.domain.jobs import JobError, JobKind


class Rule(NamedTuple):
    """Words to look for, the code they mean, and what the reader can do."""

    pattern: re.Pattern[str]
    reason: str
    hint: str


def _rule(pattern: str, reason: str, hint: str) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE), reason, hint)


RULES: Final = (
    _rule(
        r"quota|resource limit exceeded|maximum clusters per project|limit of",
        "QUOTA_EXCEEDED",
        "Raise the project's quota, or remove what is not needed, then try again.",
    ),
    _rule(
        r"no valid host|not enough hosts|NoValidHost",
        "NO_VALID_HOST",
        "No hypervisor has room for this flavor now; choose another flavor or fewer nodes, or wait for capacity.",
    ),
    _rule(
        r"image.*(propert|os_distro|kube_version)|kube_version",
        "IMAGE_PROPERTY_MISSING",
        "The template's image lacks a property its driver needs (os_distro, kube_version).",
    ),
    _rule(r"load ?balancer|octavia", "LB_ERROR", "The load balancer could not be made or removed; look at it in Octavia."),
    _rule(
        r"ports? .*in use|in use by|conflict.*(network|subnet|security group)",
        "PORT_IN_USE",
        "Something still holds a port or network of this cluster; remove it, then try again.",
    ),
    _rule(r"time[d]? ?out|timeout", "DRIVER_TIMEOUT", "The driver gave up waiting; look at the cluster's nodes."),
    _rule(
        r"unauthori[sz]ed|authentication|token.*(expired|invalid)|trust",
        "AUTH_EXPIRED",
        "The credentials the driver works with are no longer valid.",
    ),
)

_FAILED: Final = {
    JobKind.CREATE: ("CREATE_FAILED", "Delete the cluster, mend the cause, and create it again."),
    JobKind.RESIZE: ("UPDATE_FAILED", "The cluster keeps running; mend the cause, then ask for the change again."),
    JobKind.DELETE: ("DELETE_FAILED", "Delete it again; what Magnum could not remove is named in the detail."),
}


def classify(kind: JobKind, words: str | None) -> JobError:
    """The error of a job whose cluster ended in ``*_FAILED`` with these ``words`` (Magnum's status_reason or faults)."""
    text = (words or "").strip()
    for rule in RULES:
        if rule.pattern.search(text):
            return JobError(rule.reason, text, rule.hint)
    reason, hint = _FAILED.get(kind, _FAILED[JobKind.RESIZE])
    return JobError(reason, text or "Magnum gave no reason.", hint)
