"""Cluster types and Magnum's templates: what a cluster can be made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import yaml

from shared.domain.cluster_types import ClusterType, parse, parse_file
from shared.domain.clusters import Scope
from shared.domain.drivers import Driver, driver_for
from shared.domain.ports import Catalog, Page, Template
from shared.errors import (
    AlreadyExists,
    CloudRejected,
    ConfigurationError,
    Conflict,
    FieldError,
    InvalidRequest,
    NotFound,
    as_sentence,
)
from shared.services.hot import DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.db.uow import Database
    from shared.domain.ports import Actor, CloudGateway
    from shared.services.catalogs import Catalogs

FILE: Final = DIRECTORY / "cluster_templates.yaml"


@dataclass(frozen=True, slots=True)
class Choice:
    """Something that clusters can be made of. ``source``: file, api, or magnum (a template that no type stands for)."""

    id: str
    name: str
    source: str
    type: ClusterType | None = None
    template: Template | None = None  #: the Magnum template, where there is one already
    problems: list[str] = field(default_factory=list)  #: why the project can't use it now


class ShippedTypes:
    """The types of the file, read at the first question."""

    def __init__(self, path: Path = FILE) -> None:
        self._path = path

    @cached_property
    def all(self) -> dict[str, ClusterType]:
        """By name. Raises :class:`ConfigurationError` with everything that is wrong."""
        try:
            document = yaml.safe_load(self._path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as exc:
            msg = f"The cluster types can't be read from {self._path.name}: {exc}"
            raise ConfigurationError(msg) from exc
        found, findings = parse_file(document)
        if findings:
            words = "; ".join(f"{one.field}: {one.detail}" for one in findings)
            msg = f"{self._path.name}: {words}"
            raise ConfigurationError(msg)
        return found


class TemplateService:
    """Types of the file, types of the project, and Magnum's templates that the project sees."""

    def __init__(self, database: Database, catalogs: Catalogs, shipped: ShippedTypes, *, region: str) -> None:
        self._database = database
        self._catalogs = catalogs
        self._shipped = shipped
        self._region = region

    # -- reading ------------------------------------------------------------------------------------------------------

    def all(self, actor: Actor) -> list[Choice]:
        """Everything, types first, each kind in the order of names."""
        catalog = self._catalogs.get(Scope(self._region, actor.project_id))
        return self._choices(actor, catalog)

    def page(self, actor: Actor, *, limit: int, marker: str | None) -> Page[Choice]:
        """Some of them, after the one whose id is ``marker``. Raises InvalidRequest where there is none of that id."""
        choices = self.all(actor)
        start = 0
        if marker is not None:
            place = next((index for index, choice in enumerate(choices) if choice.id == marker), None)
            if place is None:
                words = f"{marker[:100]!r} is not the id of a template in this list."
                raise InvalidRequest(words, errors=[FieldError("marker", "exists", words)])
            start = place + 1
        items = choices[start : start + limit]
        return Page(items, items[-1].id if start + limit < len(choices) else None)

    def _choices(self, actor: Actor, catalog: Catalog) -> list[Choice]:
        types = self._types(actor.project_id)
        rendered: set[str] = set()
        choices: list[Choice] = []
        for name, (source, kind) in sorted(types.items()):
            template = template_of(kind, catalog)
            rendered.add(template.uuid if template else "")
            choices.append(Choice(name, name, source, kind, template, problems_of(kind, catalog)))
        rest = [template for template in catalog.templates if template.uuid not in rendered]
        choices += [
            Choice(template.uuid, template.name, "magnum", None, template) for template in sorted(rest, key=lambda one: one.name)
        ]
        return choices

    def get(self, actor: Actor, ref: str) -> Choice:
        """One, by a type's name or a Magnum template's id or name."""
        choices = self.all(actor)
        for choice in choices:
            if ref == choice.id:
                return choice
        named = [choice for choice in choices if choice.name == ref]
        if not named:
            msg = f"There is no template {ref[:100]!r}. There are: {', '.join(choice.name for choice in choices) or 'none'}."
            raise NotFound(msg, reason="TEMPLATE_NOT_FOUND")
        return named[0]

    def find_type(self, project_id: str, ref: str) -> ClusterType | None:
        """The type of this name."""
        known = self._types(project_id).get(ref)
        return known[1] if known else None

    def _types(self, project_id: str) -> dict[str, tuple[str, ClusterType]]:
        found = {name: ("file", kind) for name, kind in self._shipped.all.items()}
        with self._database.single() as uow:
            written = uow.types.all(project_id)
        for name, content in written.items():
            kind, _ = parse(content)
            if kind is not None:  # it was checked when it was written; rules may have become stricter since
                found[name] = ("api", kind)
        return found

    # -- writing --------------------------------------------------------------------------------------------------------

    def create(
        self, actor: Actor, document: Mapping[str, Any], *, findings: Sequence[FieldError] = (), validate_only: bool = False
    ) -> Choice | None:
        """Write a new type of the project. It becomes a Magnum template when a cluster is first made of it."""
        kind = self._examined(actor, document, findings)
        if kind.name in self._types(actor.project_id):
            words = f"There is a template {kind.name!r} already."
            raise AlreadyExists(words, errors=[FieldError("name", "unique", words)])
        if validate_only:
            return None
        with self._database.begin() as uow:
            if not uow.types.add(actor.project_id, kind.name, kind.content(), actor.user_id):
                words = f"There is a template {kind.name!r} already."
                raise AlreadyExists(words, errors=[FieldError("name", "unique", words)])
            uow.audit.record(actor, "templates:create", None, {"name": kind.name})
        return self.get(actor, kind.name)

    def replace(
        self,
        actor: Actor,
        ref: str,
        document: Mapping[str, Any],
        *,
        findings: Sequence[FieldError] = (),
        validate_only: bool = False,
    ) -> Choice | None:
        """Write another content of a type of the project. Clusters that exist keep the Magnum template that they have."""
        self._require_own(actor, ref)
        if document.get("name", ref) != ref:
            words = f"The name in the body must be {ref!r}: a type is not renamed."
            raise InvalidRequest(words, errors=[FieldError("name", "fixed", words)])
        kind = self._examined(actor, {**document, "name": ref}, findings)
        if validate_only:
            return None
        with self._database.begin() as uow:
            if not uow.types.replace(actor.project_id, ref, kind.content()):
                raise NotFound(f"There is no template {ref!r}.", reason="TEMPLATE_NOT_FOUND")
            uow.audit.record(actor, "templates:update", None, {"name": ref})
        return self.get(actor, ref)

    def delete(self, actor: Actor, ref: str) -> None:
        """Forget a type of the project. Its Magnum templates stay while clusters have them."""
        self._require_own(actor, ref)
        with self._database.begin() as uow:
            if not uow.types.delete(actor.project_id, ref):
                raise NotFound(f"There is no template {ref!r}.", reason="TEMPLATE_NOT_FOUND")
            uow.audit.record(actor, "templates:delete", None, {"name": ref})

    def _require_own(self, actor: Actor, ref: str) -> None:
        with self._database.single() as uow:
            if ref in uow.types.all(actor.project_id):
                return  # without asking the cloud, which may be away, and also where the rules have become stricter since
        choice = self.get(actor, ref)
        if choice.source == "api":
            return
        if choice.source == "file":
            msg = f"Template {choice.name!r} is shipped in heat/cluster_templates.yaml, and changed there."
            raise Conflict(msg, reason="TEMPLATE_SHIPPED", hint="Make one of another name with POST /templates.")
        msg = f"Template {choice.name!r} is Magnum's own."
        raise Conflict(msg, reason="TEMPLATE_OF_MAGNUM", hint="Change it with `openstack coe cluster template`.")

    def _examined(self, actor: Actor, document: Mapping[str, Any], findings: Sequence[FieldError]) -> ClusterType:
        kind, wrong = parse(document)
        known = {finding.field for finding in findings}
        wrong = [*findings, *(one for one in wrong if one.field not in known)]
        catalog = self._catalogs.get(Scope(self._region, actor.project_id))
        if kind is not None:
            wrong += missing_in(kind, catalog)
        if wrong or kind is None:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        return kind


def template_of(kind: ClusterType, catalog: Catalog) -> Template | None:
    """The Magnum template of the type's present content, the oldest where there are several; None where it was not made yet."""
    name = kind.body(driver_of(kind, catalog))["name"]
    found = [template for template in catalog.templates if template.name == name]
    return min(found, key=lambda one: (one.created_at is None, str(one.created_at), one.uuid)) if found else None


def driver_of(kind: ClusterType, catalog: Catalog) -> Driver:
    """The driver that will make clusters of this type: the named one, else that of its image.

    Where the project does not see the image, it is the first driver whose own image it does see.
    """
    if not kind.driver and kind.image not in catalog.image_os:
        for name, image in kind.images.items():
            if catalog.image_os.get(image):
                return driver_for(name)
    return driver_for(kind.driver, catalog.image_os.get(kind.image))


def image_of(kind: ClusterType, catalog: Catalog) -> tuple[str, str]:
    """The image that clusters of this type get in this project, and the field that names it."""
    name = driver_of(kind, catalog).name
    return (kind.images[name], f"images.{name}") if name in kind.images else (kind.image, "image")


def missing_in(kind: ClusterType, catalog: Catalog) -> list[FieldError]:
    """Flavors, images and keypairs that the type names and the project lacks."""
    wrong = [
        FieldError(name, "exists", f"The project has no flavor {getattr(kind, name)!r}.")
        for name in ("flavor", "master_flavor")
        if catalog.flavor(getattr(kind, name)) is None
    ]
    wrong += [
        FieldError(f"node_groups.{index}.flavor", "exists", f"The project has no flavor {group.flavor!r}.")
        for index, group in enumerate(kind.node_groups)
        if group.flavor and catalog.flavor(group.flavor) is None
    ]
    image, place = image_of(kind, catalog)
    if image not in catalog.image_os:
        wrong.append(FieldError(place, "exists", f"The project sees no image {image!r}."))
    elif not catalog.image_os[image]:
        words = f"Image {image!r} has no os_distro, by which Magnum chooses its driver."
        wrong.append(FieldError(place, "os_distro", words))
    if kind.keypair and kind.keypair not in catalog.keypairs:
        wrong.append(FieldError("keypair", "exists", f"The service's user has no keypair {kind.keypair!r}."))
    return wrong


def problems_of(kind: ClusterType, catalog: Catalog) -> list[str]:
    """The same in sentences."""
    return [finding.detail for finding in missing_in(kind, catalog)]


def as_template(kind: ClusterType, catalog: Catalog) -> Template:
    """The type as requests are checked against it, before Magnum has a template of it (whose uuid is then empty)."""
    made = template_of(kind, catalog)
    if made is not None:
        return made
    body = kind.body(driver_of(kind, catalog))
    return Template(
        uuid="",
        name=body["name"],
        coe=kind.coe,
        flavor=kind.flavor,
        master_flavor=kind.master_flavor,
        keypair=kind.keypair,
        labels=dict(kind.labels),
        master_lb_enabled=kind.master_lb_enabled,
        image=body["image_id"],
        driver=kind.driver,
        image_os=catalog.image_os.get(body["image_id"]) or None,
        network_driver=body.get("network_driver"),
    )


def ensure(gateway: CloudGateway, body: Mapping[str, Any]) -> str:
    """The uuid of the Magnum template of this name, made where there is none. Two workers at once may make two: the older is used."""
    found = gateway.find_template(body["name"])
    if found is not None:
        return found
    try:
        gateway.create_template(body)
    except CloudRejected as exc:
        if exc.reason != "CLOUD_CONFLICT":
            raise
    made = gateway.find_template(body["name"])
    if made is None:
        msg = f"Magnum does not show the template {body['name']!r} that it has just taken."
        raise CloudRejected(msg, executed=None)
    return made


def is_uuid(text: str) -> bool:
    """Whether this can only be a Magnum template's id."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True
