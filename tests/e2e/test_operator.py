"""An operator's day, through the API alone, against the simulator and, where OS_CLOUD names them, against real services.

Real services: OS_CLIENT_CONFIG_FILE with the entries OS_CLOUD (an administrator), and the same with -operator, -viewer and -outsider
(a member and a reader of the project kcloud, and a member of another project), as `make test-openstack` expects them.
"""

import base64
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
import yaml
from cryptography import x509
from keystoneauth1.adapter import Adapter
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from deployment.local.parts import Parts

pytestmark = pytest.mark.timeout(600)

QUICK = {"rig_create_seconds": "1", "rig_update_seconds": "1", "rig_delete_seconds": "1"}
WAIT_S = 120.0


@dataclass
class Site:
    """The running system, and who may ask it."""

    parts: Parts
    accounts: dict[str, tuple[str, str, str]]  #: by role: user, password, project

    def ask(self, who: str, method: str, path: str, body: Any = None) -> requests.Response:
        user, password, project = self.accounts[who]
        headers = {"X-Auth-Token": self.parts.token(user, password, project)}
        return requests.request(method, self.parts.api + path, json=body, headers=headers, timeout=90)

    def done(self, who: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A change that must be accepted, and its job once that has ended."""
        answer = self.ask(who, method, path, body)
        assert answer.status_code in {200, 201, 202}, answer.text
        return self.ended(who, answer.json()["job_id"])

    def ended(self, who: str, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = {}
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            job = self.ask(who, "GET", f"/jobs/{job_id}").json()
            if job["finished_at"]:
                return job
            time.sleep(0.3)
        history = self.ask(who, "GET", f"/jobs/{job_id}/events").json()
        msg = f"the job does not end: {job}, {history}"
        raise AssertionError(msg)

    def magnum(self, who: str) -> Adapter:
        """Magnum itself, as one of the accounts."""
        user, password, project = self.accounts[who]
        plugin = v3.Password(
            self.parts.auth_url,
            username=user,
            password=password,
            project_name=project,
            user_domain_name="Default",
            project_domain_name="Default",
        )
        return Adapter(
            Session(plugin), service_type="container-infrastructure-management", region_name="RegionOne", raise_exc=False
        )

    def cluster(self, name: str, **fields: Any) -> dict[str, Any]:
        """A cluster that is ready, of the type for GPUs, in a network of its own."""
        body = {
            "name": f"{name}-{uuid4().hex[:6]}",
            "cluster_template_id": "gpu-intensive-template",
            "node_count": 2,
            "network": "isolated",
            "labels": QUICK,
            "merge_labels": True,
            **fields,
        }
        body = {key: value for key, value in body.items() if value is not None}
        answer = self.ask("operator", "POST", "/clusters", body)
        assert answer.status_code == 202, answer.text
        made: dict[str, Any] = answer.json()
        job = self.ended("operator", made["job_id"])
        assert job["state"] == "succeeded", job
        shown: dict[str, Any] = self.ask("operator", "GET", f"/clusters/{made['id']}").json()
        assert shown["phase"] == "Ready", shown
        return shown


def _simulated(home: Path) -> Iterator[Site]:
    with Parts(home) as parts:
        yield Site(
            parts,
            {
                "operator": ("operator", "operator-password", "kcloud"),
                "viewer": ("viewer", "viewer-password", "kcloud"),
                "outsider": ("outsider", "outsider-password", "other"),
            },
        )


def _real(home: Path) -> Iterator[Site]:
    if "OS_CLIENT_CONFIG_FILE" not in os.environ or "OS_CLOUD" not in os.environ:
        pytest.skip("OS_CLIENT_CONFIG_FILE and OS_CLOUD name no real services")
    known = yaml.safe_load(Path(os.environ["OS_CLIENT_CONFIG_FILE"]).read_text(encoding="utf-8"))["clouds"]
    name = os.environ["OS_CLOUD"]
    own = known[name]["auth"]
    settings = {
        "OS_AUTH_URL": own["auth_url"],
        "OS_USERNAME": own["username"],
        "OS_PASSWORD": own["password"],
        "OS_PROJECT_NAME": os.environ.get("TEST_OS_PROJECT", "kcloud"),
        "OS_TIMEOUT": "10",
        "LEASE_TTL": "40",
    }
    accounts = {}
    for who in ("operator", "viewer", "outsider"):
        auth = known[f"{name}-{who}"]["auth"]
        accounts[who] = (auth["username"], auth["password"], auth["project_name"])
    with Parts(home, ("api", "worker", "relay", "beat"), **settings) as parts:
        yield Site(parts, accounts)


@pytest.fixture(scope="module", params=["simulator", "real"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("operator")
    yield from (_simulated if request.param == "simulator" else _real)(home)


def test_a_cluster_from_its_network_to_its_end(site: Site) -> None:
    usable = {one["name"] for one in site.ask("viewer", "GET", "/templates").json() if one["usable"]}
    assert {"gpu-intensive-template", "hybrid-balanced-template", "cpu-only-template"} <= usable
    cluster = site.cluster("gpu")
    path = f"/clusters/{cluster['id']}"

    job = site.done("operator", "PUT", f"{path}/scale", {"node_count": 3})
    assert job["state"] == "succeeded", job
    job = site.done("operator", "POST", f"{path}/node-groups", {"name": "npu", "flavor_id": "npu.intel.medium", "node_count": 1})
    assert job["state"] == "succeeded", job
    groups = {group["name"]: group["node_count"] for group in site.ask("viewer", "GET", f"{path}/node-groups").json()}
    assert groups == {"default-worker": 3, "default-master": 1, "npu": 1}
    assert site.ask("operator", "GET", path).json()["observed_node_count"] == 4

    answer = site.ask("operator", "GET", f"{path}/kubeconfig")
    assert answer.status_code == 200, answer.text
    config = json.loads(answer.text)
    certificate = x509.load_pem_x509_certificate(base64.b64decode(config["users"][0]["user"]["client-certificate-data"]))
    authority = x509.load_pem_x509_certificate(base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]))
    certificate.verify_directly_issued_by(authority)

    # A driver that can't scale to nothing keeps a worker in each of the two groups.
    for action, phase, counts in (("hibernate", "Hibernated", {0, 2}), ("wake", "Ready", {4})):
        job = site.done("operator", "POST", f"{path}/{action}")
        assert job["state"] == "succeeded", job
        shown = site.ask("operator", "GET", path).json()
        assert (shown["phase"], shown["observed_node_count"] in counts) == (phase, True), shown
    job = site.done("operator", "DELETE", f"{path}/node-groups/npu")
    assert job["state"] == "succeeded", job

    _removed(site, cluster)


def test_two_clusters_are_connected_and_taken_apart(site: Site) -> None:
    clusters = [site.cluster(name) for name in ("left", "right")]
    body = {"name": f"link-{uuid4().hex[:6]}", "template": "interconnect", "members": [one["id"] for one in clusters]}
    answer = site.ask("operator", "POST", "/stacks", body)
    assert answer.status_code == 202, answer.text
    link = answer.json()
    job = site.ended("operator", link["job_id"])
    assert job["state"] == "succeeded", job
    kinds = [resource["type"] for resource in site.ask("viewer", "GET", f"/stacks/{link['id']}").json()["resources"]]
    assert kinds.count("OS::Neutron::RouterInterface") == 2
    assert kinds.count("OS::Neutron::SecurityGroupRule") == 2

    refused = site.ask("operator", "DELETE", f"/clusters/{clusters[0]['id']}")
    assert (refused.status_code, refused.json()["reason"]) == (409, "CLUSTER_CONNECTED")
    job = site.done("operator", "DELETE", f"/stacks/{link['id']}")
    assert job["state"] == "succeeded", job
    for cluster in clusters:
        _removed(site, cluster)


def test_a_create_that_fails_says_why_in_magnums_words(site: Site) -> None:
    body = {
        "name": f"doomed-{uuid4().hex[:6]}",
        "cluster_template_id": "cpu-only-template",
        "labels": {**QUICK, "rig_fail": "create", "rig_fail_reason": "No valid host was found."},
        "merge_labels": True,
    }
    made = site.ask("operator", "POST", "/clusters", body).json()
    job = site.ended("operator", made["job_id"])
    assert (job["state"], job["error"]["reason"]) == ("failed", "NO_VALID_HOST"), job
    assert "No valid host was found" in job["error"]["detail"]
    assert site.done("operator", "DELETE", f"/clusters/{made['id']}")["state"] == "succeeded"


def test_a_hybrid_cluster_gets_its_groups(site: Site) -> None:
    cluster = site.cluster("mixed", cluster_template_id="hybrid-balanced-template", node_count=1)
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until and site.ask("operator", "GET", f"/clusters/{cluster['id']}").json()["observed_node_count"] != 3:
        time.sleep(0.5)
    groups = {
        group["name"]: group["node_count"] for group in site.ask("viewer", "GET", f"/clusters/{cluster['id']}/node-groups").json()
    }
    assert groups == {"default-worker": 1, "default-master": 1, "gpu": 1, "npu": 1}
    _removed(site, cluster)


def test_a_cluster_sleeps_wakes_and_is_brought_to_another_template(site: Site) -> None:
    cluster = site.cluster("sleeper")
    path = f"/clusters/{cluster['id']}"
    job = site.done("operator", "POST", f"{path}/hibernate")
    assert job["state"] == "succeeded", job
    asleep = site.ask("viewer", "GET", path).json()
    assert asleep["phase"] == "Hibernated"
    job = site.done("operator", "POST", f"{path}/wake")
    assert job["state"] == "succeeded", job
    awake = site.ask("viewer", "GET", path).json()
    assert (awake["phase"], awake["observed_node_count"]) == ("Ready", 2)
    name = f"next-{uuid4().hex[:6]}"
    old = site.ask("viewer", "GET", "/templates/gpu-intensive-template").json()
    wanted = {key: old[key] for key in ("image", "flavor", "master_flavor", "network_driver", "external_network") if old.get(key)}
    answer = site.ask("operator", "POST", "/templates", {"name": name, **wanted, "labels": QUICK})
    assert answer.status_code == 201, answer.text
    job = site.done("operator", "POST", f"{path}/upgrade", {"cluster_template_id": name})
    assert job["state"] == "succeeded", job
    assert site.ask("viewer", "GET", path).json()["cluster_template_name"].startswith(name)
    _removed(site, cluster)
    assert site.ask("operator", "DELETE", f"/templates/{name}").status_code in {200, 204}


def test_a_cluster_made_elsewhere_is_noticed_and_taken_over(site: Site) -> None:
    magnum = site.magnum("operator")
    template = site.ask("viewer", "GET", f"/clusters/{site.cluster('model')['id']}").json()
    body = {
        "name": f"by-hand-{uuid4().hex[:6]}",
        "cluster_template_id": template["cluster_template_id"],
        "node_count": 1,
        "master_count": 1,
        "keypair": template["keypair"],
        "labels": QUICK,
        "merge_labels": True,
    }
    made = magnum.post("/clusters", json=body)
    assert made.status_code == 202, made.text
    uuid = made.json()["uuid"]
    until = time.monotonic() + WAIT_S
    while magnum.get(f"/clusters/{uuid}").json().get("status") != "CREATE_COMPLETE" and time.monotonic() < until:
        time.sleep(0.3)
    answer = site.ask("operator", "POST", "/clusters/import", {"magnum_uuid": uuid})
    assert answer.status_code in {200, 201}, answer.text
    taken = answer.json()
    assert (taken["managed"], taken["magnum_uuid"], taken["phase"]) == (True, uuid, "Ready")
    job = site.done("operator", "PUT", f"/clusters/{taken['id']}/scale", {"node_count": 2})
    assert job["state"] == "succeeded", job
    _removed(site, taken)
    _removed(site, template)


def test_a_workload_finds_its_cluster_and_keeps_its_place(site: Site) -> None:
    cluster = site.cluster("match", node_count=1, network=None)
    work = {
        "type": "ml_training",
        "cpu_cores": 4,
        "memory_gb": 8,
        "accelerator": {"count": 1},
        "preferred_clusters": [cluster["name"]],
    }
    flavors = {one["flavor"]: one for one in site.ask("viewer", "GET", "/flavors").json()}
    assert flavors["gpu.a100.large"]["accelerator"] == "nvidia-a100"
    job = site.done("operator", "POST", "/placements", work)
    assert job["state"] == "succeeded", job
    result = job["result"]
    assert (result["action"], result["cluster"]["id"]) == ("use_existing", cluster["id"])
    held = site.ask("viewer", "GET", f"/placements?cluster_id={cluster['id']}&active=true").json()
    assert [one["id"] for one in held] == [one["id"] for one in result["placements"]]
    job = site.done("operator", "POST", "/optimize/clusters", {"max_seconds": 3})
    assert job["state"] == "succeeded", job
    assert job["result"]["objective"]["bound"] <= job["result"]["objective"]["after"] <= job["result"]["objective"]["before"]
    assert site.ask("viewer", "DELETE", f"/placements/{held[0]['id']}").status_code == 403
    assert site.ask("outsider", "DELETE", f"/placements/{held[0]['id']}").status_code == 404
    assert site.ask("operator", "DELETE", f"/placements/{held[0]['id']}").json()["end_reason"] == "RELEASED"
    _removed(site, cluster)


def test_a_viewer_writes_nothing_and_an_outsider_sees_nothing(site: Site) -> None:
    body = {"name": f"seen-{uuid4().hex[:6]}", "cluster_template_id": "cpu-only-template", "labels": QUICK, "merge_labels": True}
    made = site.ask("operator", "POST", "/clusters", body).json()
    path = f"/clusters/{made['id']}"
    assert site.ask("viewer", "GET", path).status_code == 200
    for method, below, sent in (
        ("PUT", "/scale", {"node_count": 2}),
        ("DELETE", "", None),
        ("POST", "/hibernate", None),
        ("GET", "/kubeconfig", None),
        ("PUT", "/grants", {"subject_type": "user", "subject_id": "me", "role": "owner"}),
    ):
        assert site.ask("viewer", method, path + below, sent).status_code == 403
    assert site.ask("outsider", "GET", path).status_code == 404
    assert site.ask("outsider", "GET", f"/jobs/{made['job_id']}").status_code == 404
    assert made["id"] not in site.ask("outsider", "GET", "/clusters").text
    assert site.ended("operator", made["job_id"])["state"] == "succeeded"
    assert site.done("operator", "DELETE", path)["state"] == "succeeded"


def _removed(site: Site, cluster: dict[str, Any]) -> None:
    """Delete it, and see that neither it nor its network is left."""
    assert site.done("operator", "DELETE", f"/clusters/{cluster['id']}")["state"] == "succeeded"
    assert site.ask("operator", "GET", f"/clusters/{cluster['id']}").status_code == 404
    stack = cluster["network_stack_id"]
    if stack is None:
        return
    jobs = site.ask("operator", "GET", f"/jobs?stack_id={stack}&kind=delete_stack").json()
    job = site.ended("operator", jobs[0]["id"])
    assert job["state"] == "succeeded", job
    assert site.ask("operator", "GET", f"/stacks/{stack}").status_code == 404
