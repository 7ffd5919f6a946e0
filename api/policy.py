"""Who may do what: oslo.policy's rules, with defaults in code.

A file named by POLICY_FILE replaces single rules, in oslo.policy's own format (YAML), and is read again when it changes.
Whatever the role, a token reaches its own project only: the services scope every query by it.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from oslo_config import cfg
from oslo_policy import opts, policy

from shared.errors import ConfigurationError

_READER, _MEMBER, _ADMIN = "rule:reader", "rule:member", "rule:admin"

#: name: (check, what it allows)
RULES: Final[dict[str, tuple[str, str]]] = {
    "admin": ("role:admin", "What an administrator may do."),
    "member": ("role:member or rule:admin", "What a member may do, and hence an administrator."),
    "reader": ("role:reader or rule:member", "What a reader may do, and hence a member."),
    "clusters:create": (_MEMBER, "Create clusters."),
    "clusters:list": (_READER, "List clusters."),
    "clusters:get": (_READER, "Look at a cluster and its status."),
    "clusters:scale": (_MEMBER, "Change a cluster's size."),
    "clusters:delete": (_MEMBER, "Delete clusters."),
    "clusters:metrics": (_READER, "Read a cluster's metrics."),
    "clusters:costs": (_READER, "Read a cluster's costs."),
    "clusters:hibernate": (_MEMBER, "Hibernate clusters and wake them."),
    "clusters:upgrade": (_MEMBER, "Upgrade clusters."),
    "clusters:import": (_MEMBER, "Take over clusters that were made elsewhere."),
    "clusters:kubeconfig": (_MEMBER, "Get a kubeconfig, which allows everything in the cluster."),
    "node_groups:list": (_READER, "List a cluster's node groups."),
    "node_groups:change": (_MEMBER, "Add, resize and remove node groups."),
    "grants:list": (_READER, "List the grants on a cluster."),
    "grants:change": (_ADMIN, "Give and take grants on a cluster. Who made a cluster may, too, while a member."),
    "templates:list": (_READER, "List cluster types and templates."),
    "templates:get": (_READER, "Look at a cluster type or template."),
    "templates:create": (_MEMBER, "Make cluster types of the project."),
    "templates:update": (_MEMBER, "Change cluster types of the project."),
    "templates:delete": (_MEMBER, "Delete cluster types of the project."),
    "stacks:create": (_MEMBER, "Create stacks, and preview them."),
    "stacks:list": (_READER, "List stacks and the templates for them."),
    "stacks:get": (_READER, "Look at a stack."),
    "stacks:update": (_MEMBER, "Change stacks."),
    "stacks:delete": (_MEMBER, "Delete stacks."),
    "match:workload": (_MEMBER, "Match workloads, hold capacity for them, extend and end what is held."),
    "scaling:get": (_READER, "Look at a cluster's scale policy, and what it would do."),
    "scaling:analyze": (_READER, "Ask what workloads would need. Nothing is done."),
    "scaling:change": (_MEMBER, "Give a cluster a scale policy, or take it away."),
    "costs:list": (_READER, "Read the project's costs."),
    "usage:list": (_READER, "Read what the project's clusters ran and drew."),
    "rates:list": (_READER, "List rate cards."),
    "rates:change": (_ADMIN, "Add and remove the project's rate cards."),
    "rates:site": (_ADMIN, "Add and remove rate cards of every project, besides rates:change."),
    "budgets:list": (_READER, "List budgets."),
    "budgets:change": (_MEMBER, "Add and remove the project's budgets."),
    "budgets:binding": (_ADMIN, "Add and remove binding ones, besides budgets:change."),
    "optimize:clusters": (_MEMBER, "Plan which clusters could go, shrink or be made."),
    "plans:get": (_READER, "List plans and look at them."),
    "plans:approve": (_MEMBER, "Approve plans. PLAN_APPROVAL may ask for more."),
    "plans:apply": (_MEMBER, "Have approved plans applied."),
    "plans:cancel": (_MEMBER, "Withdraw plans."),
    "plans:moved": (_MEMBER, "Report that an offered move was done."),
    "placements:list": (_READER, "List what is held, and what is free."),
    "accelerators:list": (_READER, "List accelerators and flavors."),
    "jobs:list": (_READER, "List jobs."),
    "jobs:get": (_READER, "Look at a job and its history."),
    "jobs:cancel": (_MEMBER, "Cancel jobs."),
    "credentials:get": (_ADMIN, "See which application credential is registered."),
    "credentials:put": (_ADMIN, "Register the project's application credential."),
    "credentials:delete": (_ADMIN, "Remove the project's application credential."),
    "cleanup:get": (_READER, "See which clusters are idle, why not, and by which policy."),
    "cleanup:run": (_MEMBER, "Look for idle clusters at once."),
    "cleanup:policy": (_MEMBER, "Write the project's cleanup policy."),
    "cleanup:floor": (_ADMIN, "Write the floor under it."),
    "cleanup:hold": (_MEMBER, "Keep a cluster for a time, and let it go."),
    "cleanup:cancel": (_MEMBER, "Take a cluster back from cleanup."),
    "webhooks:list": (_MEMBER, "List webhooks and their deliveries. Their addresses may hold secrets."),
    "webhooks:create": (_MEMBER, "Add webhooks."),
    "webhooks:delete": (_MEMBER, "Remove webhooks."),
    "telemetry:list": (_ADMIN, "See how the meters are, which tell of all projects' nodes."),
    "service:metrics": (_READER, "Read /metrics. The rule '@' opens it to a Prometheus that has no token."),
}


class Policy:
    """Answers whether credentials satisfy a rule. About 30 µs an answer; callers remember them (see :mod:`api.auth`)."""

    def __init__(self, policy_file: str | None = None) -> None:
        """Raises :class:`ConfigurationError` where the file is missing or not to be read."""
        # It logs every rule that the file replaces, at every start.
        logging.getLogger("oslo_policy").setLevel(logging.ERROR)
        conf = cfg.ConfigOpts()
        conf([], project="kcloud", default_config_files=[], default_config_dirs=[])
        opts.set_defaults(conf, policy_file=policy_file or "policy.yaml")
        if policy_file and not Path(policy_file).is_file():
            msg = f"POLICY_FILE: there is no file {policy_file!r}."
            raise ConfigurationError(msg)
        self._enforcer = policy.Enforcer(conf, policy_file=policy_file, use_conf=bool(policy_file))
        self._enforcer.suppress_default_change_warnings = True
        self._enforcer.register_defaults([policy.RuleDefault(name, check, about) for name, (check, about) in RULES.items()])
        try:
            self._enforcer.load_rules(force_reload=True)
        except Exception as exc:  # oslo.policy lets YAML's, its own and configuration's errors through
            msg = f"POLICY_FILE can't be read: {exc}"
            raise ConfigurationError(msg) from exc
        unknown = sorted(set(self._enforcer.file_rules) - set(RULES)) if policy_file else []
        if unknown:
            msg = f"POLICY_FILE has rules that nothing asks for: {', '.join(unknown)}. There are: {', '.join(RULES)}."
            raise ConfigurationError(msg)

    def allows(self, rule: str, credentials: Mapping[str, Any]) -> bool:
        """Whether ``credentials`` (roles, user_id, project_id) satisfy ``rule`` in their own project."""
        target = {"project_id": credentials.get("project_id"), "user_id": credentials.get("user_id")}
        return bool(self._enforcer.enforce(rule, target, dict(credentials), do_raise=False))
