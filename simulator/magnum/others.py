"""Certificates, quotas, statistics, services, and Magnum's root."""

import datetime as dt
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from simulator.clock import iso
from simulator.http import Answer, Request, Router
from simulator.identity import Identity
from simulator.magnum import views
from simulator.magnum.reading import Field, read
from simulator.magnum.service import Magnum
from simulator.magnum.wire import body_of, fault, headers
from simulator.store import Store

_DAYS = 1825
_QUOTA = {
    "project_id": Field(mandatory=True, least=1, most=255),
    "resource": Field(mandatory=True, choices=("Cluster",)),
    "hard_limit": Field("integer", least=0),
}


class Authority:
    """One certificate authority per cluster, made when first asked for and kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, tuple[str, str]] = {key: (body["key"], body["certificate"]) for key, body in store.all("ca")}

    def certificate(self, cluster: str) -> str:
        """The authority's own certificate, in PEM."""
        return self._pair(cluster)[1]

    def sign(self, cluster: str, request: str) -> str:
        """A certificate for a request in PEM. ValueError where it is none."""
        wanted = x509.load_pem_x509_csr(request.encode())
        key_pem, own_pem = self._pair(cluster)
        key = serialization.load_pem_private_key(key_pem.encode(), None)
        own = x509.load_pem_x509_certificate(own_pem.encode())
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(wanted.subject)
            .issuer_name(own.subject)
            .public_key(wanted.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + dt.timedelta(days=_DAYS))
        )
        for extension in wanted.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError("the authority's key is RSA")
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def rotate(self, cluster: str) -> None:
        """A new authority from now on."""
        self._held.pop(cluster, None)
        self._store.drop("ca", cluster)

    def _pair(self, cluster: str) -> tuple[str, str]:
        held = self._held.get(cluster)
        if held is None:
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cluster)])
            now = dt.datetime.now(dt.UTC)
            own = (
                x509.CertificateBuilder()
                .subject_name(name)
                .issuer_name(name)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now)
                .not_valid_after(now + dt.timedelta(days=_DAYS))
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .sign(key, hashes.SHA256())
            )
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode()
            held = (pem, own.public_bytes(serialization.Encoding.PEM).decode())
            self._held[cluster] = held
            self._store.put("ca", cluster, {"key": held[0], "certificate": held[1]})
        return held


def routes(magnum: Magnum, router: Router, store: Store) -> None:  # noqa: C901, PLR0915 - a table of small handlers
    """Add them."""
    authority = Authority(store)
    quotas = magnum.quotas
    quotas.update(store.all("quota"))

    def certificate(request: Request) -> Answer:
        me, version = magnum.enter(request, "certificate:get", writes=True)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
        body = {"cluster_uuid": cluster.uuid, "pem": authority.certificate(cluster.uuid)}
        return Answer(200, body | {"links": views.links(request.origin, f"certificates/{cluster.uuid}")}, headers(version))

    def signed(request: Request) -> Answer:
        me, version = magnum.enter(request, "certificate:create", writes=True)
        body = body_of(request, "certificate")
        with magnum.collection.lock:
            cluster = magnum.cluster(me, str(body.get("cluster_uuid")))
        if "csr" not in body:
            raise fault(500, "Cannot load 'csr' in the base class", code="server")
        try:
            pem = authority.sign(cluster.uuid, str(body.get("csr")))
        except ValueError:
            raise fault(500, "Unable to load PEM file", code="server") from None
        made = {"cluster_uuid": cluster.uuid, "pem": pem, "csr": body["csr"]}
        return Answer(201, made | {"links": views.links(request.origin, f"certificates/{cluster.uuid}")}, headers(version))

    def rotated(request: Request) -> Answer:
        me, version = magnum.enter(request, "certificate:rotate_ca", writes=True)
        with magnum.collection.lock:
            authority.rotate(magnum.cluster(me, request.variables["id"]).uuid)
        return Answer(202, None, headers(version))

    def statistics(request: Request) -> Answer:
        me, version = magnum.enter(request, "stats:get_all")
        project = request.query.get("project_id") or (None if me.is_admin else me.project_id)
        if not me.is_admin and project != me.project_id:
            raise fault(403, "Not authorized.")
        with magnum.collection.lock:
            magnum.conductor.catch_up()
            mine = [c for c in magnum.collection.clusters.values() if project in {None, c.project_id}]
            return Answer(200, {"clusters": len(mine), "nodes": sum(c.node_count + c.master_count for c in mine)}, headers(version))

    def all_quotas(request: Request) -> Answer:
        me, version = magnum.enter(request, "quota:get_all")
        if request.query.get("all_tenants") and not me.is_admin:
            raise fault(403, "Policy doesn't allow quota:get_all to be performed.")
        return Answer(200, {"quotas": list(quotas.values())}, headers(version))

    def require_admin(me: Identity, rule: str) -> None:
        if not me.is_admin:
            raise fault(403, f"Policy doesn't allow {rule} to be performed.")

    def quota(request: Request) -> Answer:
        me, version = magnum.enter(request, "quota:get")
        project = request.variables["project"]
        if not me.is_admin and project != me.project_id:
            raise fault(403, "Not authorized.")
        default = {"id": 0, "resource": "Cluster", "project_id": project, "hard_limit": magnum.quota}
        return Answer(200, quotas.get(project, default | {"created_at": None, "updated_at": None}), headers(version))

    def held(request: Request) -> dict[str, Any]:
        """The quota that a path names, which an administrator has set before."""
        project, resource = request.variables["project"], request.variables["resource"]
        if project not in quotas:
            raise fault(404, f"Quota could not be found: project_id {project} resource {resource}.")
        return quotas[project]

    def set_quota(request: Request) -> Answer:
        me, version = magnum.enter(request, "quota:create", writes=True)
        require_admin(me, "quota:create")
        body = read("quota", body_of(request, "quota"), _QUOTA)
        project = body["project_id"]
        if project not in magnum.keystone.table("project"):
            raise fault(404, f"The project_id {project} could not be found.")
        if project in quotas:
            raise fault(409, f"Quota for project {project} already exists for resource {body['resource']}.")
        number = max((known["id"] for known in quotas.values()), default=0) + 1
        moments = {"created_at": iso(magnum.clock.now()), "updated_at": None}
        quotas[project] = {"id": number, "hard_limit": 1, **body, **moments}
        store.put("quota", project, quotas[project])
        return Answer(201, quotas[project], headers(version))

    def change_quota(request: Request) -> Answer:
        me, version = magnum.enter(request, "quota:update", writes=True)
        require_admin(me, "quota:update")
        limit = read("quota", body_of(request, "quota"), _QUOTA).get("hard_limit")
        known = held(request)
        if limit is not None and limit != known["hard_limit"]:
            known |= {"hard_limit": limit, "updated_at": iso(magnum.clock.now())}
            store.put("quota", known["project_id"], known)
        return Answer(202, known, headers(version))

    def drop_quota(request: Request) -> Answer:
        me, version = magnum.enter(request, "quota:delete", writes=True)
        require_admin(me, "quota:delete")
        project = held(request)["project_id"]
        del quotas[project]
        store.drop("quota", project)
        return Answer(204, None, headers(version))

    def services(request: Request) -> Answer:
        me, version = magnum.enter(request, "magnum-service:get_all")
        require_admin(me, "magnum-service:get_all")
        now = magnum.clock.now()
        row = {
            "host": "simulator",
            "binary": "magnum-conductor",
            "state": "down" if magnum.conductor.down else "up",
            "id": 1,
            "report_count": int(now) % 100_000,
            "disabled": False,
            "disabled_reason": None,
            "created_at": iso(now),
            "updated_at": iso(now),
        }
        return Answer(200, {"mservices": [row]}, headers(version))

    router.add("GET", "/v1/certificates/{id}", certificate)
    router.add("POST", "/v1/certificates", signed)
    router.add("PATCH", "/v1/certificates/{id}", rotated)
    router.add("GET", "/v1/stats", statistics)
    router.add("GET", "/v1/quotas", all_quotas)
    router.add("POST", "/v1/quotas", set_quota)
    router.add("GET", "/v1/quotas/{project}/{resource}", quota)
    router.add("PATCH", "/v1/quotas/{project}/{resource}", change_quota)
    router.add("DELETE", "/v1/quotas/{project}/{resource}", drop_quota)
    router.add("GET", "/v1/mservices", services)
    router.add("GET", "/", _root)
    router.add("GET", "/v1", _v1)


def _root(request: Request) -> Answer:
    """Versions."""
    one = {
        "id": "v1",
        "links": [{"href": f"{request.origin}/container-infra/v1/", "rel": "self"}],
        "status": "CURRENT",
        "max_version": "1.14",
        "min_version": "1.1",
    }
    words = "Magnum is an OpenStack project which aims to provide container cluster management."
    return Answer(200, {"name": "OpenStack Magnum API", "description": words, "versions": [one]})


def _v1(request: Request) -> Answer:
    """The one version's resources. Of microversions it tells nothing: they stand in the headers of every answer."""
    names = ("clustertemplates", "clusters", "quotas", "certificates", "mservices", "stats", "federations", "credentials")
    base = f"{request.origin}/container-infra"
    manual = "http://docs.openstack.org/developer/magnum/dev/api-spec-v1.html"
    groups = "clusters/{cluster_id}/nodegroups"
    body: dict[str, Any] = {
        "id": "v1",
        "media_types": [{"base": "application/json", "type": "application/vnd.openstack.magnum.v1+json"}],
        "links": [{"href": f"{base}/v1/", "rel": "self"}, {"href": manual, "rel": "describedby", "type": "text/html"}],
        "nodegroups": views.links(request.origin, groups),
    }
    for name in names:
        body[name] = views.links(request.origin, f"{name}/")
    return Answer(200, body, headers((1, 1)))
