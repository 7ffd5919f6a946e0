"""What the simulated cloud starts with: the accounts, templates, flavors, images, networks and keypair of the examples."""

import uuid
from typing import Any

from simulator.compute import Nova
from simulator.identity import IMPLIED, Keystone, _role_id
from simulator.image import Glance
from simulator.magnum.model import Collection, Template
from simulator.network import Neutron

#: user -> (password, project, role). Public knowledge: this cloud is a simulation.
ACCOUNTS = {
    "admin": ("secretpassword", "kcloud", "admin"),
    "operator": ("operator-password", "kcloud", "member"),
    "viewer": ("viewer-password", "kcloud", "reader"),
    "outsider": ("outsider-password", "other", "member"),
    "researcher": ("researcher-password", "lab", "member"),
}
KEYPAIR = "kcloud-keypair"
_PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA example"
IMAGE = "ubuntu-24.04-kube-v1.33.1"

FLAVORS: tuple[tuple[str, int, int, int, dict[str, str]], ...] = (
    (
        "gpu.a100.large",
        32,
        128,
        200,
        {
            "pci_passthrough:alias": "a100:4",
            **{f"accelerator:{k}": v for k, v in {"type": "gpu", "model": "nvidia-a100", "count": "4"}.items()},
        },
    ),
    (
        "gpu.h100.xlarge",
        64,
        512,
        400,
        {
            "pci_passthrough:alias": "h100:8",
            **{f"accelerator:{k}": v for k, v in {"type": "gpu", "model": "nvidia-h100", "count": "8"}.items()},
        },
    ),
    (
        "npu.intel.medium",
        16,
        64,
        100,
        {
            "accel:device_profile": "npu-intel-x2",
            **{f"accelerator:{k}": v for k, v in {"type": "npu", "model": "intel-npu", "count": "2"}.items()},
        },
    ),
    (
        "npu.furiosa.large",
        32,
        128,
        200,
        {
            "resources:CUSTOM_NPU_FURIOSA": "4",
            **{f"accelerator:{k}": v for k, v in {"type": "npu", "model": "furiosa-rngd", "count": "4"}.items()},
        },
    ),
    ("cpu.large", 16, 64, 100, {}),
    ("cpu.medium", 8, 32, 80, {}),
    ("cpu.small", 2, 4, 20, {}),
)

TEMPLATES: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    (
        "gpu-intensive-template",
        "gpu.a100.large",
        "cpu.large",
        {"gpu_enabled": "true", "power_monitoring": "kepler", "workload_type": "training"},
    ),
    ("npu-optimized-template", "npu.intel.medium", "cpu.medium", {"npu_enabled": "true", "workload_type": "inference"}),
    ("cpu-only-template", "cpu.large", "cpu.medium", {"workload_type": "general"}),
)


def plant(keystone: Keystone, nova: Nova, glance: Glance, neutron: Neutron, collection: Collection) -> None:
    """Make what is missing; harmless when all is there."""
    for role in IMPLIED:
        keystone.put("role", _role_id(role), {"id": _role_id(role), "name": role, "domain_id": None, "description": None})
    for name, (password, project, role) in ACCOUNTS.items():
        user = keystone.add_user(name, password)
        keystone.assign(user, keystone.add_project(project), role)
        if role != "reader":
            nova.add_keypair(user, KEYPAIR, _PUBLIC_KEY)
    keystone.assign(keystone.add_user("admin", ACCOUNTS["admin"][0]), keystone.add_project("lab"), "admin")
    for name, vcpus, gb, disk, specs in FLAVORS:
        nova.add_flavor(name, vcpus, gb * 1024, disk, specs)
    glance.add(IMAGE, {"os_distro": "ubuntu", "os_version": "24.04", "kube_version": "v1.33.1"})
    glance.add("fedora-coreos-42", {"os_distro": "fedora-coreos", "os_version": "42"})
    kcloud = keystone.add_project("kcloud")
    neutron.add("public", "0" * 32, external=True)
    neutron.add("kcloud-net", kcloud, external=False)
    for name, flavor, master, labels in TEMPLATES:
        if not any(template.name == name for template in collection.templates.values()):
            collection.save_template(_template(name, flavor, master, labels, kcloud, keystone.add_user("admin", "")))


def _template(name: str, flavor: str, master: str, labels: dict[str, str], project: str, user: str) -> Template:
    body: dict[str, Any] = {
        "coe": "kubernetes",
        "image_id": IMAGE,
        "flavor_id": flavor,
        "master_flavor_id": master,
        "keypair_id": KEYPAIR,
        "external_network_id": "public",
        "network_driver": "calico",
        "cluster_distro": "ubuntu",
        "labels": labels,
        "public": True,
        "registry_enabled": False,
        "tls_disabled": False,
        "server_type": "vm",
        "master_lb_enabled": name.startswith("gpu"),
        "floating_ip_enabled": True,
        "hidden": False,
        "driver": "k8s_capi_helm_v1",
    }
    key = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"template.{name}"))
    return Template(uuid=key, name=name, project_id=project, user_id=user, body=body, created_at=1_700_000_000.0)
