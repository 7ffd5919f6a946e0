"""The Flask application."""

from typing import TYPE_CHECKING, Any

from flask import Flask, Response
from flask.sessions import SessionInterface

from api import edge, problems
from api.access import AccessViews
from api.auth import Guard, KeystoneValidator, Tokens, Validator
from api.budgets import BudgetViews
from api.changes import ChangeViews
from api.cleanup import CleanupViews
from api.clusters import ClusterViews
from api.costs import CostViews
from api.credentials import CredentialViews
from api.jobs import JobViews
from api.kit import Kit, Slots
from api.match import MatchViews
from api.optimize import OptimizeViews
from api.plans import PlanViews
from api.policy import Policy
from api.rates import RateViews
from api.scaling import ScalingViews
from api.service import ServiceViews
from api.spec import make_api
from api.stacks import StackViews
from api.telemetry import TelemetryViews
from api.templates import TemplateViews
from api.usage import UsageViews
from api.webhooks import WebhookViews

if TYPE_CHECKING:
    from shared.bootstrap import Container


class _NoSession(SessionInterface):
    """There are no sessions: every request brings its token."""

    def open_session(self, app: Flask, request: Any) -> Any:
        """An object that Flask takes for an empty session."""
        del app, request
        return self

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        """Nothing is kept."""

    def is_null_session(self, obj: object) -> bool:
        """There is nothing to save, ever."""
        return obj is self


def _empty_app() -> Flask:
    app = Flask("api", static_folder=None)
    app.session_interface = _NoSession()
    app.url_map.merge_slashes = False  # `//clusters` is not `/clusters`, and no answer needs a redirect
    return app


def _add_views(app: Flask, kit: Any) -> None:
    api = make_api(app)
    for views in (
        ServiceViews(kit, app),
        ClusterViews(kit),
        ChangeViews(kit),
        AccessViews(kit),
        TemplateViews(kit),
        StackViews(kit),
        MatchViews(kit),
        ScalingViews(kit),
        OptimizeViews(kit),
        PlanViews(kit),
        RateViews(kit),
        CostViews(kit),
        BudgetViews(kit),
        UsageViews(kit),
        JobViews(kit),
        CleanupViews(kit),
        WebhookViews(kit),
        TelemetryViews(kit),
        CredentialViews(kit),
    ):
        api.register_blueprint(views.blueprint())


def describe() -> Flask:
    """An application that can be asked for its OpenAPI document alone, and needs no settings."""
    app = _empty_app()
    _add_views(app, None)
    return app


def create_app(container: "Container", *, validate: Validator | None = None) -> Flask:
    """The application over a wired product. Opens no connection.

    ``validate`` stands in for Keystone where there is none. Raises :class:`~shared.errors.ConfigurationError` where the
    policy file can't be used.
    """
    settings = container.settings
    guard = Guard(
        Tokens(validate or KeystoneValidator(settings.cloud)),
        Policy(settings.api.policy_file),
        container.access,
        keystone_url=settings.cloud.auth_url,
    )
    kit = Kit(
        container=container,
        guard=guard,
        # Together fewer than there are threads, so that ordinary requests always find one.
        waits=Slots(settings.api.threads // 2),
        streams=Slots(settings.api.threads // 4),
        max_wait_s=settings.api.max_wait_s,
    )
    app = _empty_app()
    app.config["MAX_CONTENT_LENGTH"] = settings.api.max_body_bytes
    problems.install(app)
    edge.install(app, debug=settings.log_level.upper() == "DEBUG")
    _add_views(app, kit)
    return app
