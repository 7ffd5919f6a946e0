"""What the parts of the conversation ask for."""

from typing import Any

from tests.simulator.talking import Talk

#: Work that takes a second of the cloud's.
QUICK = {"rig_create_seconds": "1", "rig_update_seconds": "1", "rig_delete_seconds": "1"}
TEMPLATE: dict[str, Any] = {
    "name": "talk-template",
    "image_id": "ubuntu-24.04-kube-v1.33.1",
    "coe": "kubernetes",
    "flavor_id": "gpu.a100.large",
    "master_flavor_id": "cpu.large",
    "external_network_id": "public",
    "keypair_id": "kcloud-keypair",
    "labels": {"kube_tag": "v1.33.1", "workload_type": "training"},
}


def cluster(**changes: Any) -> dict[str, Any]:
    """A cluster's body; an Ellipsis leaves a field out."""
    body = {"name": "talk-cluster", "cluster_template_id": "talk-template", "labels": QUICK, **changes}
    return {key: value for key, value in body.items() if value is not ...}


def clear_clusters(talk: Talk) -> None:
    """Remove those of this conversation, also of one that was broken off."""
    talk.settle()  # until lists show what was accepted last
    mine = [c for c in talk.ask("GET", "/clusters").json().get("clusters", []) if c["name"].startswith("talk-")]
    for one in mine:
        talk.ask("DELETE", f"/clusters/{one['uuid']}")
    for one in mine:
        talk.until(one["uuid"], "gone", "DELETE_FAILED")
        if talk.ask("DELETE", f"/clusters/{one['uuid']}").status_code == 204:
            talk.until(one["uuid"], "gone")
