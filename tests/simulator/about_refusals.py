"""The part of the conversation that Magnum mostly says no to."""

import requests

from tests.simulator.talking import Talk, password_body
from tests.simulator.wishes import TEMPLATE, clear_clusters, cluster


def templates(talk: Talk) -> None:
    """Cluster templates."""
    path = "/clustertemplates"
    for label, changes in (
        ("without an image", {"image_id": None}),
        ("unknown image", {"image_id": "nothing"}),
        ("unknown flavor", {"flavor_id": "nothing"}),
        ("unknown keypair", {"keypair_id": "nothing"}),
        ("unknown network", {"external_network_id": "nothing"}),
        ("unknown coe", {"coe": "swarm"}),
        ("unknown field", {"nothing": 1}),
        ("unknown network driver", {"network_driver": "nothing"}),
        ("unknown server type", {"server_type": "nothing"}),
        ("unknown volume driver", {"volume_driver": "nothing"}),
        ("devicemapper without a volume", {"docker_storage_driver": "devicemapper"}),
        ("bad name", {"name": "1abc"}),
        ("labels that are a list", {"labels": ["x"]}),
        ("public, by a member", {"public": True}),
        ("a volume of zero", {"docker_volume_size": 0}),
    ):
        body = {key: value for key, value in {**TEMPLATE, **changes}.items() if value is not None}
        answer = talk.say(f"template: {label}", "POST", path, json=body)
        if answer.status_code == 201:
            talk.ask("DELETE", f"{path}/{answer.json()['uuid']}")
    talk.say("template: by a reader", "POST", path, json=TEMPLATE, who="viewer")
    made = talk.say("template: made", "POST", path, json=TEMPLATE).json()
    talk.say("template: shown", "GET", f"{path}/{made['uuid']}")
    talk.say("template: shown by name", "GET", f"{path}/talk-template")
    talk.say("template: shown to a reader", "GET", f"{path}/talk-template", who="viewer")
    talk.say("template: shown to another project", "GET", f"{path}/{made['uuid']}", who="outsider")
    talk.say("template: unknown", "GET", f"{path}/nothing")
    listed = talk.ask("GET", path).json()["clustertemplates"]
    talk.keep("template: in the list", next(t for t in listed if t["uuid"] == made["uuid"]))
    detailed = talk.ask("GET", f"{path}/detail").json()["clustertemplates"]
    talk.keep("template: in detail", next(t for t in detailed if t["uuid"] == made["uuid"]))
    patch = [{"op": "replace", "path": "/flavor_id", "value": "cpu.small"}]
    talk.say("template: changed", "PATCH", f"{path}/{made['uuid']}", json=patch)
    talk.say("template: changed back", "PATCH", f"{path}/{made['uuid']}", json=[{**patch[0], "value": "gpu.a100.large"}])
    talk.say("template: changed to nonsense", "PATCH", f"{path}/{made['uuid']}", json=[{**patch[0], "path": "/nothing"}])
    talk.say("template: changed by a reader", "PATCH", f"{path}/{made['uuid']}", json=patch, who="viewer")
    second = talk.say("template: of the same name", "POST", path, json=TEMPLATE).json()
    talk.say("template: one of two", "GET", f"{path}/talk-template")
    talk.say("template: removed", "DELETE", f"{path}/{second['uuid']}")
    talk.say("template: removed again", "DELETE", f"{path}/{second['uuid']}")
    theirs = talk.say("template: another project's", "POST", path, json={**TEMPLATE, "name": "talk-theirs"}, who="outsider")
    talk.say("cluster: of another project's template", "POST", "/clusters", json=cluster(cluster_template_id=theirs.json()["uuid"]))
    talk.ask("DELETE", f"{path}/{theirs.json()['uuid']}", who="outsider")


def refusals(talk: Talk) -> None:
    """Clusters that can't be made, lists that can't be had, versions that there are not."""
    path = "/clusters"
    for label, changes, how in (
        ("unknown template", {"cluster_template_id": "nothing"}, {}),
        ("unknown template at 1.1", {"cluster_template_id": "nothing"}, {"version": None}),
        ("no template", {"cluster_template_id": ...}, {}),
        ("no nodes at 1.9", {"node_count": 0}, {"version": "1.9"}),
        ("node_count -1", {"node_count": -1}, {}),
        ("node_count x", {"node_count": "x"}, {}),
        ("master_count 0", {"master_count": 0}, {}),
        ("master_count 2", {"master_count": 2}, {}),
        ("master_count 3 without a load balancer", {"master_count": 3}, {}),
        ("unknown flavor", {"flavor_id": "nothing"}, {}),
        ("unknown keypair", {"keypair": "nothing"}, {}),
        ("name 1abc", {"name": "1abc"}, {}),
        ("name with a blank", {"name": "p m"}, {}),
        ("empty name", {"name": ""}, {}),
        ("long name", {"name": "a" * 243}, {}),
        ("unknown field", {"nothing": 1}, {}),
        ("a status", {"status": "CREATE_COMPLETE"}, {}),
        ("a project", {"project_id": "x"}, {}),
        ("labels that are a string", {"labels": "x"}, {}),
        ("a label that is a list", {"labels": {"a": ["b"]}}, {}),
        ("create_timeout -1", {"create_timeout": -1}, {}),
        ("by a reader", {}, {"who": "viewer"}),
    ):
        talk.say(f"cluster: {label}", "POST", path, json=cluster(**changes), **how)
    clear_clusters(talk)  # what was accepted after all
    talk.say("cluster: no JSON", "POST", path, data=b"{", headers={"Content-Type": "application/json"})
    talk.say("cluster: a list", "POST", path, json=[])
    talk.say("cluster: no body", "POST", path, headers={"Content-Type": "application/json"})
    talk.say("cluster: text", "POST", path, data=b"x", headers={"Content-Type": "text/plain"})
    talk.say("cluster: no token", "GET", path, who=None)
    talk.say("cluster: bad token", "GET", path, who=None, headers={"X-Auth-Token": "nonsense"})
    unscoped = requests.post(
        f"{talk.cloud.auth_url}/auth/tokens", json=password_body(talk.cloud.accounts["operator"], scope="unscoped"), timeout=30
    )
    token = {"X-Auth-Token": unscoped.headers["X-Subject-Token"]}
    talk.say("cluster: unscoped token", "GET", path, who=None, headers=token)
    talk.say("cluster: unscoped token writes", "POST", path, who=None, headers=token, json=cluster())
    for method in ("GET", "DELETE", "PATCH"):
        talk.say(f"cluster: {method} of an unknown one", method, f"{path}/nothing", json=[] if method == "PATCH" else None)
    talk.say("cluster: PUT", "PUT", f"{path}/nothing", json={})
    for query in ("limit=0", "limit=-1", "limit=x", "sort_dir=up", "sort_key=nothing", "sort_key=labels", "status=x", "marker=x",
                  "marker=6ec6ad6b-5f26-4b35-8b9f-dd65aa2b46a8"):  # fmt: skip
        talk.say(f"clusters?{query}", "GET", f"{path}?{query}")
    for version in ("1.15", "1.0", "2.0", "x", "1", "latest", "1.14"):
        talk.say(f"version {version}", "GET", "/clusters/nothing", version=version)
    long_form = {"OpenStack-API-Version": "container-infrastructure-management 1.10"}
    talk.say("version, long form", "GET", "/clusters/nothing", version=None, headers=long_form)
    talk.say(
        "version of another service", "GET", "/clusters/nothing", version=None, headers={"OpenStack-API-Version": "compute 2.1"}
    )
    talk.say("resize without a version", "POST", f"{path}/nothing/actions/resize", version=None, json={"node_count": 1})
    talk.say("upgrade at 1.7", "POST", f"{path}/nothing/actions/upgrade", version="1.7", json={})
    talk.say("node groups at 1.8", "GET", f"{path}/nothing/nodegroups", version="1.8")
    talk.say("no such page", "GET", "/nothing")
    talk.say("no such action", "POST", f"{path}/nothing/actions/nothing", json={})
    talk.say("magnum: root", "GET", "", version=None)
