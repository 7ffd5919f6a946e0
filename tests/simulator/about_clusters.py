"""The part of the conversation that follows clusters through their lives."""

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.simulator.talking import Talk
from tests.simulator.wishes import QUICK, TEMPLATE, cluster


def life(talk: Talk) -> None:
    """A cluster is made, changed in all ways, and has a twin that fails."""
    path = "/clusters"
    made = talk.say("cluster: made", "POST", path, json=cluster(node_count=2)).json()["uuid"]
    talk.until(made, "CREATE_COMPLETE")
    one = f"{path}/{made}"
    talk.say("cluster: complete", "GET", one)
    talk.say("cluster: complete, at 1.1", "GET", one, version=None)
    talk.say("cluster: complete, at 1.14", "GET", one, version="1.14")
    talk.say("cluster: by name", "GET", f"{path}/talk-cluster")
    talk.say("cluster: for a reader", "GET", one, who="viewer")
    talk.say("cluster: for another project", "GET", one, who="outsider")
    talk.say("cluster: removed by another project", "DELETE", one, who="outsider")
    talk.say("cluster: removed by a reader", "DELETE", one, who="viewer")
    talk.say("cluster: for an administrator", "GET", one, who="admin")
    _changes(talk, one)
    talk.say("cluster: resized", "POST", f"{one}/actions/resize", json={"node_count": 3})
    talk.wait(one, lambda body: body["status"] == "UPDATE_COMPLETE" and len(body["node_addresses"]) == 3)
    talk.say("cluster: after resize", "GET", one)
    talk.say("cluster: upgraded", "POST", f"{one}/actions/upgrade", json={"cluster_template": "talk-template", "max_batch_size": 1})
    talk.settle()
    talk.until(made, "UPDATE_COMPLETE")
    talk.say("template: removed while in use", "DELETE", "/clustertemplates/talk-template")
    talk.say("template: changed while in use", "PATCH", "/clustertemplates/talk-template",
             json=[{"op": "replace", "path": "/flavor_id", "value": "cpu.small"}])  # fmt: skip
    talk.say("template: renamed while in use", "PATCH", "/clustertemplates/talk-template",
             json=[{"op": "replace", "path": "/name", "value": "talk-renamed"}])  # fmt: skip
    talk.ask("PATCH", "/clustertemplates/talk-renamed", json=[{"op": "replace", "path": "/name", "value": "talk-template"}])
    _certificates(talk, made)
    twin = talk.say("cluster: of the same name", "POST", path, json=cluster(labels={**QUICK, "rig_fail": "create"}, node_count=0))
    failed = twin.json()["uuid"]
    talk.until(failed, "CREATE_FAILED")
    talk.say("cluster: one of two", "GET", f"{path}/talk-cluster")
    talk.say("cluster: failed", "GET", f"{path}/{failed}")
    talk.say("cluster: failed, resized", "POST", f"{path}/{failed}/actions/resize", json={"node_count": 3})
    talk.settle()
    talk.say("cluster: failed, after resize", "GET", f"{path}/{failed}")
    talk.say("cluster: removed", "DELETE", f"{path}/{failed}")
    talk.say("cluster: removed again", "DELETE", f"{path}/{failed}")
    talk.until(failed, "gone")
    talk.say("cluster: gone", "GET", f"{path}/{failed}")
    talk.say("cluster: removed when gone", "DELETE", f"{path}/{failed}")
    _merged(talk)


def _changes(talk: Talk, one: str) -> None:
    for label, body, how in (
        ("resize without a count", {}, {}),
        ("resize to -1", {"node_count": -1}, {}),
        ("resize to x", {"node_count": "x"}, {}),
        ("resize to 0 at 1.9", {"node_count": 0}, {"version": "1.9"}),
        ("resize of an unknown group", {"node_count": 1, "nodegroup": "nothing"}, {}),
        ("resize of masters to 3", {"node_count": 3, "nodegroup": "default-master"}, {}),
        ("resize of masters to 2", {"node_count": 2, "nodegroup": "default-master"}, {}),
        ("resize with an unknown field", {"node_count": 1, "nothing": 1}, {}),
        ("resize by a reader", {"node_count": 1}, {"who": "viewer"}),
        ("resize by another project", {"node_count": 1}, {"who": "outsider"}),
    ):
        talk.say(f"cluster: {label}", "POST", f"{one}/actions/resize", json=body, **how)
    for label, change in (
        ("labels", [{"op": "replace", "path": "/labels", "value": "x"}]),
        ("a label", [{"op": "add", "path": "/labels/a", "value": "b"}]),
        ("name", [{"op": "replace", "path": "/name", "value": "talk-other"}]),
        ("stack_id", [{"op": "replace", "path": "/stack_id", "value": "x"}]),
        ("an unknown field", [{"op": "replace", "path": "/nothing", "value": "x"}]),
        ("node_count x", [{"op": "replace", "path": "/node_count", "value": "x"}]),
        ("node_count -1", [{"op": "replace", "path": "/node_count", "value": -1}]),
        ("a list", [{"op": "replace", "path": "/node_count", "value": [1]}]),
        ("an unknown operation", [{"op": "nothing", "path": "/node_count", "value": 1}]),
        ("no path", [{"op": "replace", "value": 1}]),
        ("no list", {"node_count": 1}),
        ("nothing", []),
    ):
        talk.say(f"cluster: PATCH of {label}", "PATCH", one, json=change)
    for label, body in (
        ("nothing", {}),
        ("unknown template", {"cluster_template": "nothing", "max_batch_size": 1}),
        ("no batch size", {"cluster_template": "talk-template"}),
        ("batch of 0", {"cluster_template": "talk-template", "max_batch_size": 0}),
    ):
        talk.say(f"cluster: upgrade, {label}", "POST", f"{one}/actions/upgrade", json=body)


def _certificates(talk: Talk, cluster: str) -> None:
    talk.say("certificate: of the authority", "GET", f"/certificates/{cluster}")
    talk.say("certificate: unknown cluster", "GET", "/certificates/nothing")
    talk.say("certificate: for a reader", "GET", f"/certificates/{cluster}", who="viewer")
    talk.say("certificate: for another project", "GET", f"/certificates/{cluster}", who="outsider")
    talk.say("certificate: signed", "POST", "/certificates", json={"cluster_uuid": cluster, "csr": _csr()})
    talk.say("certificate: nothing to sign", "POST", "/certificates", json={"cluster_uuid": cluster})


def _csr() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"), x509.NameAttribute(NameOID.COMMON_NAME, "a")]
    )
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _merged(talk: Talk) -> None:
    for label, body in (
        ("replaced", {"labels": {**QUICK, "kube_tag": "v1.30.0"}}),
        ("merged", {"labels": {**QUICK, "kube_tag": "v1.30.0", "mine": "yes"}, "merge_labels": True}),
        ("inherited", {"labels": ...}),
        ("typed", {"labels": {**QUICK, "a": 1, "b": True, "c": 1.5}, "create_timeout": 7, "docker_volume_size": 5}),
        ("odd counts", {"node_count": "3", "keypair": None}),
        ("count of 1.5", {"node_count": 1.5}),
    ):
        name = f"talk-{label.replace(' ', '-').replace('.', '-')}"
        uuid = talk.say(f"labels: {label}", "POST", "/clusters", json=cluster(name=name, **body)).json()["uuid"]
        talk.until(uuid, "CREATE_COMPLETE")
        talk.say(f"labels: {label}, shown", "GET", f"/clusters/{uuid}")
        talk.ask("DELETE", f"/clusters/{uuid}")


def lists(talk: Talk) -> None:
    """Lists and their pages; what there is about projects."""
    for name in ("replaced", "merged", "inherited", "typed", "odd-counts", "count-of-1-5"):
        talk.until(f"talk-{name}", "gone")
    for path in ("/clusters", "/clusters/detail"):
        rows = talk.ask("GET", path).json()["clusters"]
        talk.keep(f"list: a row of {path}", next(row for row in rows if row["name"] == "talk-cluster"))
        page = talk.ask("GET", f"{path}?limit=1&sort_key=updated_at&sort_dir=desc").json()
        talk.keep(f"list: next of {path}", page["next"])
        talk.keep(f"list: keys of {path}", sorted(page))
    talk.say("list: nobody else's", "GET", "/clusters?limit=1000", who="outsider")
    talk.say("statistics", "GET", "/stats?project_id=nothing")
    talk.say("services, for a member", "GET", "/mservices")
    talk.say("services", "GET", "/mservices", who="admin")
    project = talk.cloud.ids["operator.project"]
    talk.say("quota: of another project", "GET", "/quotas/nothing/Cluster")
    talk.say("quota: set by a member", "POST", "/quotas", json={"project_id": project, "resource": "Cluster", "hard_limit": 5})
    talk.say("quota: all, for a member", "GET", "/quotas?all_tenants=true")
    other = talk.cloud.ids["outsider.project"]
    talk.ask("DELETE", f"/quotas/{other}/Cluster", who="admin")
    wanted = {"project_id": other, "resource": "Cluster", "hard_limit": 0}
    talk.say("quota: set", "POST", "/quotas", json=wanted, who="admin")
    talk.say("quota: set twice", "POST", "/quotas", json=wanted, who="admin")
    talk.say("quota: shown", "GET", f"/quotas/{other}/Cluster", who="admin")
    talk.say("quota: changed", "PATCH", f"/quotas/{other}/Cluster", json={**wanted, "hard_limit": 0}, who="admin")
    talk.ask("POST", "/clustertemplates", json={**TEMPLATE, "name": "talk-theirs"}, who="outsider")
    talk.say("quota: reached", "POST", "/clusters", json=cluster(cluster_template_id="talk-theirs"), who="outsider")
    talk.say("quota: removed", "DELETE", f"/quotas/{other}/Cluster", who="admin")
    talk.say("quota: removed again", "DELETE", f"/quotas/{other}/Cluster", who="admin")
    talk.say("quota: of a project that is not there", "POST", "/quotas", json={**wanted, "project_id": "nothing"}, who="admin")


def groups(talk: Talk) -> None:
    """Node groups of the cluster that is there."""
    path = "/clusters/talk-cluster/nodegroups"
    talk.say("groups: listed", "GET", path)
    talk.say("groups: listed by role", "GET", f"{path}?role=worker")
    talk.say("groups: for another project", "GET", path, who="outsider")
    talk.say("groups: shown", "GET", f"{path}/default-worker")
    talk.say("groups: shown at 1.14", "GET", f"{path}/default-worker", version="1.14")
    talk.say("groups: unknown", "GET", f"{path}/nothing")
    gpu = {"name": "gpu", "flavor_id": "gpu.h100.xlarge", "node_count": 2, "min_node_count": 1, "max_node_count": 3}
    for label, changes, how in (
        ("by a reader", {}, {"who": "viewer"}),
        ("without a name", {"name": ...}, {}),
        ("twice the same name", {"name": "default-worker"}, {}),
        ("as masters", {"role": "master"}, {}),
        ("unknown flavor", {"flavor_id": "nothing"}, {}),
        ("more than most", {"node_count": 4}, {}),
        ("less than least", {"node_count": 0}, {}),
        ("least over most", {"min_node_count": 5}, {}),
        ("unknown field", {"nothing": 1}, {}),
        ("empty at 1.9", {"name": "empty", "node_count": 0, "min_node_count": 0}, {"version": "1.9"}),
        ("with a restricted label", {"node_labels": {"kubernetes.io/a": "b"}}, {"version": "1.14"}),
        ("with a bad taint", {"node_taints": [{"key": "a", "effect": "b"}]}, {"version": "1.14"}),
    ):
        body = {key: value for key, value in {**gpu, **changes}.items() if value is not ...}
        talk.say(f"groups: made {label}", "POST", path, json=body, **how)
    talk.wait(f"{path}/empty", _complete)
    talk.say("groups: made", "POST", path, json=gpu)
    talk.wait(f"{path}/gpu", _complete)
    talk.until("talk-cluster", "UPDATE_COMPLETE")
    talk.say("groups: made, shown", "GET", f"{path}/gpu")
    talk.say("groups: made, in its cluster", "GET", "/clusters/talk-cluster")
    talk.say("groups: made, listed", "GET", path)
    talk.say("groups: resized too far", "POST", "/clusters/talk-cluster/actions/resize", json={"node_count": 4, "nodegroup": "gpu"})
    talk.say(
        "groups: resized too little", "POST", "/clusters/talk-cluster/actions/resize", json={"node_count": 0, "nodegroup": "gpu"}
    )
    talk.say("groups: name changed", "PATCH", f"{path}/gpu", json=[{"op": "replace", "path": "/name", "value": "x"}])
    talk.say("groups: most under count", "PATCH", f"{path}/gpu", json=[{"op": "replace", "path": "/max_node_count", "value": 1}])
    talk.say("groups: most changed", "PATCH", f"{path}/gpu", json=[{"op": "replace", "path": "/max_node_count", "value": 5}])
    talk.settle()
    talk.until("talk-cluster", "UPDATE_COMPLETE")
    talk.say("groups: default removed", "DELETE", f"{path}/default-worker")
    talk.say("groups: unknown removed", "DELETE", f"{path}/nothing")
    talk.say("groups: removed", "DELETE", f"{path}/gpu")
    talk.wait(f"{path}/gpu", lambda body: body is None)
    talk.say("groups: removed, then", "GET", f"{path}/gpu")


def _complete(group: Any) -> bool:
    return group is not None and str(group["status"]).endswith("_COMPLETE")
