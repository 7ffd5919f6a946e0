"""The catalogue of accelerators, out of its file, and the flavors of a project mapped to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from shared.domain.accelerators import Catalogue, NodeShape, Reserve, read
from shared.domain.clusters import Scope
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from shared.domain.ports import Actor, Catalog
    from shared.services.catalogs import Catalogs
    from shared.settings import PlacementSettings

FILE: Final = Path(__file__).resolve().parents[1] / "data" / "accelerators.yaml"


def load_catalogue(settings: PlacementSettings) -> Catalogue:
    """The catalogue. Raises :class:`ConfigurationError` that names every wrong row and field."""
    path = Path(settings.accelerators_file) if settings.accelerators_file else FILE
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as exc:
        msg = f"ACCELERATORS_FILE: {path} can't be read: {exc}"
        raise ConfigurationError(msg) from exc
    reserve = Reserve(settings.reserved_cpu_milli, settings.reserved_memory_percent / 100)
    catalogue, wrong = read(document, reserve=reserve)
    if catalogue is None:
        words = "; ".join(f"{one.field}: {one.detail}" for one in wrong)
        msg = f"ACCELERATORS_FILE: {path}: {words}"
        raise ConfigurationError(msg)
    return catalogue


class AcceleratorService:
    """What there is, and what a project's flavors have of it."""

    def __init__(self, catalogue: Catalogue, catalogs: Catalogs, *, region: str) -> None:
        self.catalogue = catalogue
        self._catalogs = catalogs
        self._region = region

    def accelerators(self) -> list[dict[str, Any]]:
        """Every row."""
        return [row.as_dict() for row in self.catalogue.rows.values()]

    def flavors(self, actor: Actor) -> list[dict[str, Any]]:
        """The project's flavors, by name, each with what a node of it has, costs and draws."""
        catalog = self._catalogs.get(Scope(self._region, actor.project_id))
        ordered = sorted(catalog.flavors, key=lambda flavor: flavor.name)
        return [{"id": flavor.id, **self.catalogue.node(flavor).as_dict()} for flavor in ordered]

    def shapes(self, catalog: Catalog) -> dict[str, NodeShape]:
        """Shapes of nodes by the flavor's name and by its id, as clusters may name either."""
        found: dict[str, NodeShape] = {}
        for flavor in catalog.flavors:
            found[flavor.name] = found[flavor.id] = self.catalogue.node(flavor)
        return found
