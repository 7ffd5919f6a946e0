"""The part of the conversation that is with Nova, Glance and Neutron."""

from tests.simulator.talking import Talk


def neighbours(talk: Talk) -> None:
    """Flavors, keypairs, images, networks."""
    nova = {"service": "compute"}
    talk.say("nova: version", "GET", "/", **nova)
    flavors = talk.say("nova: flavors", "GET", "/flavors", **nova).json()["flavors"]
    talk.say("nova: flavors in detail", "GET", "/flavors/detail", **nova)
    one = next(flavor["id"] for flavor in flavors if flavor["name"] == "npu.furiosa.large")
    talk.say("nova: flavor", "GET", f"/flavors/{one}", **nova)
    talk.say("nova: flavor at 2.61", "GET", f"/flavors/{one}", headers={"OpenStack-API-Version": "compute 2.61"}, **nova)
    talk.say("nova: flavor's specs", "GET", f"/flavors/{one}/os-extra_specs", **nova)
    talk.say("nova: unknown flavor", "GET", "/flavors/nothing", **nova)
    talk.say("nova: keypairs", "GET", "/os-keypairs", **nova)
    talk.say("nova: no keypair of a reader", "GET", "/os-keypairs", who="viewer", **nova)
    talk.say("nova: keypair", "GET", "/os-keypairs/kcloud-keypair", **nova)
    talk.say("nova: unknown keypair", "GET", "/os-keypairs/nothing", **nova)
    talk.say("nova: bad token", "GET", "/flavors", who=None, headers={"X-Auth-Token": "x"}, **nova)
    talk.say("nova: limits", "GET", "/limits", **nova)
    talk.say("nova: servers of nobody", "GET", "/servers/detail?name=nothing", **nova)
    glance = {"service": "image"}
    prefix = "" if talk.cloud.endpoints["image"].endswith("/v2") else "/v2"
    image = talk.say("glance: images", "GET", f"{prefix}/images?name=ubuntu-24.04-kube-v1.33.1", **glance).json()["images"][0]
    talk.say("glance: image", "GET", f"{prefix}/images/{image['id']}", **glance)
    talk.say("glance: unknown image", "GET", f"{prefix}/images/nothing", **glance)
    neutron = {"service": "network"}
    prefix = "" if talk.cloud.endpoints["network"].endswith("/v2.0") else "/v2.0"
    for name in ("public", "kcloud-net"):
        talk.say(f"neutron: {name}", "GET", f"{prefix}/networks?name={name}", **neutron)
    talk.say("neutron: kcloud-net for another project", "GET", f"{prefix}/networks?name=kcloud-net", who="outsider", **neutron)
    talk.say("neutron: unknown network", "GET", f"{prefix}/networks/nothing", **neutron)
