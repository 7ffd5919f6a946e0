"""``make verify-openstack``: can this service work with the OpenStack that OS_* names, and what will it find there?

Each line of the table is a finding: ``ok``, ``warn`` (it works, but look at it) or ``fail`` (something needed is missing). The exit
code is 1 when anything fails. No secret is shown.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import requests
from keystoneauth1 import exceptions as ksa
from keystoneauth1.adapter import Adapter
from keystoneauth1.identity.base import BaseIdentityPlugin
from keystoneauth1.session import Session

from shared.domain.accelerators import Catalogue
from shared.domain.drivers import Driver, driver_for, missing
from shared.errors import CloudError, ConfigurationError
from shared.openstack.catalog import read_catalog
from shared.openstack.connection import Sessions
from shared.openstack.magnum import SERVICE, highest_version, supported_version
from shared.services.accelerators import load_catalogue
from shared.settings import CloudSettings, PlacementSettings, accelerators_file, cloud_settings

#: service type -> (name, needed)
SERVICES: Final = {
    "identity": ("Keystone", True),
    SERVICE: ("Magnum", True),
    "compute": ("Nova", True),
    "image": ("Glance", True),
    "network": ("Neutron", True),
    "orchestration": ("Heat", False),
    "load-balancer": ("Octavia", False),
    "key-manager": ("Barbican", False),
}
#: Node groups, and clusters without workers.
_NEEDED_VERSION: Final = (1, 10)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: how it is, about what, and what was found or is to do."""

    verdict: str
    subject: str
    words: str


class Verifier:
    """Asks an OpenStack, one subject after the other; a failure that the rest depends on ends the asking."""

    def __init__(self, settings: CloudSettings, catalogue: Catalogue | None = None) -> None:
        self._settings = settings
        self._catalogue = catalogue or load_catalogue(PlacementSettings())
        self._sessions = Sessions(settings, lambda _scope: None)

    def findings(self) -> Iterator[Finding]:
        """All findings, as they come."""
        try:
            session = self._sessions.own()
        except CloudError as exc:
            yield Finding("fail", "token", f"{exc.detail} Look at OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME.")
            return
        yield Finding(
            "ok", "token", f"{self._settings.username} in project {self._settings.project_name} ({session.get_project_id()})"
        )
        yield from self._roles(session)
        missing = False
        for finding in self._catalog(session):
            missing = missing or finding.verdict == "fail"
            yield finding
        if missing:
            return
        yield from self._guarded("Magnum", self._magnum, session)
        yield from self._guarded("catalog", self._building_blocks, session)
        yield from self._guarded("images", self._images, session)
        yield from self._guarded("quota", self._quota, session)

    def _guarded(self, subject: str, ask: Any, session: Session) -> Iterator[Finding]:
        try:
            yield from ask(session)
        except (ksa.ClientException, CloudError, requests.RequestException) as exc:
            yield Finding("fail", subject, f"does not answer as it should: {exc}")

    def _roles(self, session: Session) -> Iterator[Finding]:
        plugin = session.auth
        if not isinstance(plugin, BaseIdentityPlugin):
            return
        try:
            roles = set(plugin.get_access(session).role_names or [])
        except ksa.ClientException as exc:
            yield Finding("warn", "roles", str(exc))
            return
        if roles & {"member", "admin"}:
            yield Finding("ok", "roles", ", ".join(sorted(roles)))
        else:
            yield Finding("fail", "roles", f"{', '.join(sorted(roles)) or 'none'}: the role member is needed to make clusters")

    def _adapter(self, session: Session, service: str) -> Adapter:
        settings = self._settings
        return Adapter(session=session, service_type=service, interface=settings.interface, region_name=settings.region)

    def _catalog(self, session: Session) -> Iterator[Finding]:
        for service, (name, needed) in SERVICES.items():
            try:
                endpoint = self._adapter(session, service).get_endpoint()
            except ksa.ClientException:
                endpoint = None
            if endpoint:
                yield Finding("ok", name, endpoint)
            elif needed:
                where = f"region {self._settings.region}, interface {self._settings.interface}"
                yield Finding("fail", name, f"the catalog names no {service} in {where}: see OS_REGION_NAME, MAGNUM_ENDPOINT_TYPE")
            elif name == "Heat":
                yield Finding("warn", name, "not in the catalog: no stacks (clusters do not need it)")

    def _magnum(self, session: Session) -> Iterator[Finding]:
        adapter = self._adapter(session, SERVICE)
        highest = highest_version(adapter)
        wanted = self._settings.magnum_api_version
        if not highest:
            yield Finding("warn", "microversion", "Magnum tells no range; 1.10 is asked for")
        else:
            chosen = supported_version(wanted, highest)
            words = f"Magnum has up to {highest[0]}.{highest[1]}; {chosen} is used"
            if highest < _NEEDED_VERSION:
                yield Finding("fail", "microversion", f"{words}, but 1.10 is needed")
            elif wanted not in {chosen, "latest"}:
                yield Finding("warn", "microversion", f"{words}, as MAGNUM_API_VERSION={wanted} is more than both sides have")
            else:
                yield Finding("ok", "microversion", words)
            lacking = missing(f"{highest[0]}.{highest[1]}")
            if lacking:
                yield Finding("warn", "microversion", f"what this Magnum's lacks: {', '.join(lacking)}")
        headers = {"OpenStack-API-Version": f"{SERVICE} 1.10"}
        services = adapter.get("/mservices", headers=headers, raise_exc=False)
        if services.ok:
            states = [f"{row['binary']} {row['state']}" for row in services.json().get("mservices", [])]
            down = any(words.endswith("down") for words in states)
            yield Finding("fail" if down else "ok", "conductor", ", ".join(states) or "none told")
        yield from self._templates(adapter, headers)

    def _templates(self, adapter: Adapter, headers: dict[str, str]) -> Iterator[Finding]:
        answer = adapter.get("/clustertemplates/detail", headers=headers, raise_exc=False)
        if not answer.ok:
            yield Finding("fail", "templates", f"HTTP {answer.status_code}: {answer.text[:200]}")
            return
        templates = answer.json().get("clustertemplates", [])
        if not templates:
            yield Finding("warn", "templates", "none: make one before the first cluster (openstack coe cluster template create)")
            return
        yield Finding("ok", "templates", ", ".join(sorted(item["name"] for item in templates)))
        drivers = sorted({item.get("driver") or "" for item in templates} - {""})
        if not drivers:
            yield Finding("warn", "drivers", "this Magnum does not tell which driver its templates use")
        for name in drivers:
            driver = driver_for(name)
            yield Finding("ok" if driver.known else "warn", "driver", f"{name}: {capabilities(driver)}")

    def _building_blocks(self, session: Session) -> Iterator[Finding]:
        catalog = read_catalog(self._sessions.connection(session), ())
        if not catalog.flavors:
            yield Finding("fail", "flavors", "the project sees none")
        else:
            shapes = [self._catalogue.node(flavor) for flavor in catalog.flavors]
            found = [f"{shape.flavor} ({shape.devices} x {shape.accelerator.id})" for shape in shapes if shape.accelerator]
            yield Finding("ok", "flavors", f"{len(catalog.flavors)} in all")
            yield Finding("ok" if found else "warn", "accelerators", ", ".join(found) or "no flavor shows a GPU or NPU")
        if catalog.keypairs:
            yield Finding("ok", "keypairs", ", ".join(sorted(catalog.keypairs)))
        else:
            yield Finding("warn", "keypairs", "the user has none; keypairs belong to users, and some drivers need one")

    def _images(self, session: Session) -> Iterator[Finding]:
        images = list(self._sessions.connection(session).image.images())
        fit = []
        for image in images:
            known = {**(image.properties or {}), "os_distro": image.os_distro}
            if known.get("os_distro"):
                version = known.get("kube_version")
                fit.append(f"{image.name} ({known['os_distro']}{', ' + version if version else ''})")
        if fit:
            yield Finding("ok", "images", ", ".join(sorted(fit)))
        else:
            yield Finding("fail", "images", f"none of {len(images)} has os_distro, without which Magnum makes no template")

    def _quota(self, session: Session) -> Iterator[Finding]:
        project = session.get_project_id()
        adapter = self._adapter(session, SERVICE)
        headers = {"OpenStack-API-Version": f"{SERVICE} 1.10"}
        quota = adapter.get(f"/quotas/{project}/Cluster", headers=headers, raise_exc=False)
        used = adapter.get(f"/stats?project_id={project}", headers=headers, raise_exc=False)
        if not quota.ok:
            yield Finding(
                "warn", "quota", f"Magnum does not tell it (HTTP {quota.status_code}); its default is 20 clusters a project"
            )
            return
        limit = int(quota.json()["hard_limit"])
        count = int(used.json()["clusters"]) if used.ok else 0
        full = 0 <= limit <= count
        yield Finding("warn" if full else "ok", "quota", f"{count} of {limit} clusters")


def capabilities(driver: Driver) -> str:
    """What a Magnum driver can do, by the table of :mod:`shared.domain.drivers`, in a line."""
    told = [
        driver.title,
        "removes chosen nodes" if driver.removes_chosen_nodes else "chooses itself which nodes go",
        "scales to zero" if driver.least_workers == 0 else f"keeps {driver.least_workers} worker in each group",
        "heeds create_timeout" if driver.honours_create_timeout else "ignores create_timeout",
        "takes changes of node_count by PATCH" if driver.patches_node_count else "resizes by POST alone",
        "tells which resource failed" if driver.tells_faults else "tells a failure in words alone",
        f"CNI {' or '.join(driver.network_drivers)}",
    ]
    if driver.image_properties:
        told.append(f"images need {' and '.join(driver.image_properties)}")
    return "; ".join(told)


def table(findings: list[Finding]) -> str:
    """The findings, lined up."""
    width = max((len(finding.subject) for finding in findings), default=0)
    return "\n".join(f"{finding.verdict:4}  {finding.subject:{width}}  {finding.words}" for finding in findings)


def main() -> int:
    """Command line."""
    try:
        settings = cloud_settings()
        catalogue = load_catalogue(PlacementSettings(accelerators_file=accelerators_file()))
    except ConfigurationError as exc:
        sys.stderr.write(f"{exc.detail}\n")
        return 1
    findings = list(Verifier(settings, catalogue).findings())
    sys.stdout.write(table(findings) + "\n")
    wrong = [finding for finding in findings if finding.verdict == "fail"]
    if wrong:
        sys.stderr.write(f"\nThis OpenStack can't be used as it is: {'; '.join(f.subject for f in wrong)}.\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
