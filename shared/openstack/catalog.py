"""What a project can build clusters from: templates by Magnum, flavors and keypairs by openstacksdk."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from keystoneauth1 import exceptions as ksa

from shared.domain.ports import Catalog, Flavor, Template
from shared.openstack.errors import translate

if TYPE_CHECKING:
    from openstack.connection import Connection


def read_catalog(connection: "Connection", templates: Iterable[Mapping[str, Any]]) -> Catalog:
    """Read flavors and keypairs, and put them beside Magnum's templates."""
    from openstack import exceptions as sdk  # 0.3 s, which what never reads a catalogue need not spend

    try:
        flavors = tuple(
            Flavor(
                id=flavor.id,
                name=flavor.name,
                vcpus=int(flavor.vcpus or 0),
                ram_mb=int(flavor.ram or 0),
                extra_specs={str(k): str(v) for k, v in (flavor.extra_specs or {}).items()},
            )
            for flavor in connection.compute.flavors(details=True, get_extra_specs=True)
        )
        keypairs = frozenset(pair.name for pair in connection.compute.keypairs())
        image_os: dict[str, str] = {}
        for image in connection.image.images():
            distro = getattr(image, "os_distro", None) or (image.properties or {}).get("os_distro") or ""
            image_os |= {image.id: str(distro), image.name or image.id: str(distro)}
    except (ksa.ClientException, sdk.SDKException) as exc:
        raise translate(exc, mutating=False) from exc
    known = tuple(template_from(item, image_os) for item in templates)
    return Catalog(known, flavors, keypairs, datetime.now(UTC), image_os)


def template_from(body: Mapping[str, Any], image_os: Mapping[str, str] | None = None) -> Template:
    """A template as Magnum's JSON shows it. ``image_os``: the operating system of each image."""
    return Template(
        uuid=body["uuid"],
        name=body.get("name") or "",
        coe=body.get("coe") or "",
        flavor=body.get("flavor_id"),
        master_flavor=body.get("master_flavor_id"),
        keypair=body.get("keypair_id"),
        labels=body.get("labels") or {},
        master_lb_enabled=bool(body.get("master_lb_enabled")),
        image=body.get("image_id"),
        driver=body.get("driver"),
        image_os=(image_os or {}).get(body.get("image_id") or "") or None,
        created_at=datetime.fromisoformat(body["created_at"]) if body.get("created_at") else None,
        network_driver=body.get("network_driver"),
    )
