"""What the product may rely on of a cloud: one suite for the fake, the simulator and real services."""

import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.domain.clusters import NodeGroupSpec, ObservedCluster
from shared.errors import CloudAuthFailed, CloudBeingWritten, CloudError, CloudNotFound, CloudRejected, QuotaExceeded
from tests.contract.subjects import Subject

pytestmark = [
    pytest.mark.timeout(300),
    # openstacksdk 4.22 warns of its own calls of itself.
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning"),
]

NOWHERE = "57ac16d1-0000-4000-8000-45ed5b2e7eeb"


def is_set(seen: ObservedCluster | None) -> ObservedCluster:
    assert seen is not None
    return seen


# -- a cluster's life ---------------------------------------------------------------------------------------------------------


def test_life_of_a_cluster(subject: Subject) -> None:
    gateway = subject.gateway
    spec = subject.spec(labels={"workload_type": "training"}, node_count=2)
    uuid = subject.create(spec)
    made = subject.arrived(uuid, "CREATE_COMPLETE")
    assert (made.uuid, made.name, made.node_count, made.master_count) == (uuid, spec.name, 2, 1)
    assert (made.template_id, made.keypair, made.project_id) == (subject.template, subject.keypair, subject.scope.project_id)
    assert made.labels == {**subject.template_labels, **spec.labels}  # merged, ours on top
    assert made.flavor == "gpu.a100.large"
    assert made.master_flavor == "cpu.large"
    assert made.api_address
    assert made.health_status == "HEALTHY"
    assert made.created_at is not None
    assert made.updated_at is not None
    assert made.created_at.tzinfo is not None
    assert made.updated_at >= made.created_at
    subject.pause(1.1)  # `updated_at` has a resolution of a second

    gateway.resize(uuid, 4)
    resized = subject.arrived(uuid, "UPDATE_COMPLETE")
    assert resized.node_count == 4
    assert resized.updated_at is not None
    assert resized.updated_at > made.updated_at

    assert gateway.delete(uuid) is True
    seen = {"UPDATE_COMPLETE"}
    subject.until(lambda: _gone(gateway, uuid, seen), "gone")
    assert seen <= {"UPDATE_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_COMPLETE"}
    assert gateway.delete(uuid) is False


def _gone(gateway: Any, uuid: str, seen: set[str]) -> bool:
    shown = gateway.get(uuid)
    if shown is not None:
        seen.add(shown.raw_status)
    return shown is None


def test_a_new_cluster_is_absent_then_being_written_then_there(subject: Subject) -> None:
    gateway = subject.gateway
    uuid = subject.create(subject.spec())
    for ask in (lambda: gateway.get(uuid), lambda: gateway.page(limit=1000)):
        try:
            ask()
        except CloudBeingWritten as exc:
            assert exc.retryable  # noqa: PT017 - whether it comes is a matter of milliseconds
    seen = is_set(subject.until(lambda: gateway.get(uuid), "visible"))
    assert seen.raw_status in {"CREATE_IN_PROGRESS", "CREATE_COMPLETE"}


def test_delete_works_while_the_cluster_is_being_made(subject: Subject) -> None:
    uuid = subject.create(subject.spec(labels={"rig_create_seconds": "20"}))
    subject.arrived(uuid, "CREATE_IN_PROGRESS")
    assert subject.gateway.delete(uuid) is True
    subject.gateway.delete(uuid)  # a second one does no harm
    subject.until(lambda: _gone(subject.gateway, uuid, set()), "gone")


def test_failed_create_tells_why(subject: Subject) -> None:
    words = "Resource CREATE failed: No valid host was found."
    uuid = subject.create(subject.spec(labels={"rig_fail": "create", "rig_fail_reason": words}))
    seen = subject.arrived(uuid, "CREATE_FAILED")
    assert seen.status_reason == words
    assert not seen.faults or words in str(seen.faults)  # some drivers tell it once more for each node group


def test_failed_delete_tells_why_and_a_second_one_works(subject: Subject) -> None:
    uuid, _ = subject.made_quick(labels={"rig_fail": "delete", "rig_fail_reason": "ports still in use"})
    subject.gateway.delete(uuid)
    assert subject.arrived(uuid, "DELETE_FAILED").status_reason == "ports still in use"
    assert subject.gateway.delete(uuid) is True
    subject.until(lambda: _gone(subject.gateway, uuid, set()), "gone")


# -- resizing -------------------------------------------------------------------------------------------------------------------


def test_resize_during_create_is_accepted_and_dropped(subject: Subject) -> None:
    uuid = subject.create(subject.spec(labels={"rig_create_seconds": "3"}))
    subject.arrived(uuid, "CREATE_IN_PROGRESS")
    subject.gateway.resize(uuid, 5)
    subject.pause(0.5)
    assert subject.arrived(uuid, "CREATE_COMPLETE").node_count == 1


def test_resize_to_zero_workers_and_back(subject: Subject) -> None:
    uuid, _ = subject.made_quick()
    subject.gateway.resize(uuid, 0)
    subject.until(lambda: is_set(subject.gateway.get(uuid)).node_count == 0, "no workers")
    assert subject.arrived(uuid, "UPDATE_COMPLETE").node_count == 0
    assert subject.gateway.node_groups(uuid)[0].node_count == 0


def test_node_groups_name_the_default_group_first_and_masters_last(subject: Subject) -> None:
    uuid, _ = subject.made_quick(node_count=3)
    groups = subject.gateway.node_groups(uuid, detailed=True)
    assert [(group.name, group.node_count, group.is_master) for group in groups] == [
        ("default-worker", 3, False),
        ("default-master", 1, True),
    ]
    assert groups[0].is_default
    assert groups[0].flavor == "gpu.a100.large"
    assert groups[0].most is None


def test_a_node_group_comes_is_resized_and_goes(subject: Subject) -> None:
    gateway = subject.gateway
    uuid, _ = subject.made_quick()
    gateway.add_node_group(uuid, NodeGroupSpec("cpu", 2, flavor="cpu.large", least=1, most=4, labels={"pool": "cpu"}))
    subject.until(lambda: is_set(gateway.get(uuid)).node_count == 3, "three workers")
    subject.arrived(uuid, "UPDATE_COMPLETE")
    group = next(group for group in gateway.node_groups(uuid, detailed=True) if group.name == "cpu")
    assert (group.node_count, group.flavor, group.least, group.most, group.is_default) == (2, "cpu.large", 1, 4, False)

    with pytest.raises(CloudRejected, match="outside the allowed range"):
        gateway.resize(uuid, 5, node_group="cpu")
    with pytest.raises(CloudRejected) as twice:
        gateway.add_node_group(uuid, NodeGroupSpec("cpu", 1))
    assert twice.value.upstream_status == 409

    gateway.resize(uuid, 4, node_group="cpu")
    subject.until(lambda: is_set(gateway.get(uuid)).node_count == 5, "five workers")
    subject.arrived(uuid, "UPDATE_COMPLETE")
    assert gateway.node_groups(uuid)[0].node_count == 1

    assert gateway.remove_node_group(uuid, "cpu") is True
    subject.until(lambda: is_set(gateway.get(uuid)).node_count == 1, "one worker")
    subject.arrived(uuid, "UPDATE_COMPLETE")
    assert gateway.remove_node_group(uuid, "cpu") is False


def test_the_default_group_stays(subject: Subject) -> None:
    uuid, _ = subject.made_quick()
    with pytest.raises(CloudRejected, match="default nodegroup") as caught:
        subject.gateway.remove_node_group(uuid, "default-worker")
    assert_told(caught.value, 400)


def test_upgrade_to_another_template(subject: Subject) -> None:
    uuid, before = subject.made_quick()
    subject.pause(1.1)
    subject.gateway.upgrade(uuid, subject.template, max_batch_size=1)
    subject.until(lambda: is_set(subject.gateway.get(uuid)).updated_at != before.updated_at, "a change")
    assert subject.arrived(uuid, "UPDATE_COMPLETE").node_count == before.node_count
    with pytest.raises(CloudNotFound, match="could not be found"):
        subject.gateway.upgrade(uuid, NOWHERE, max_batch_size=1)


def test_a_signed_request_chains_to_the_clusters_authority(subject: Subject) -> None:
    uuid, _ = subject.made_quick()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM).decode()
    authority = x509.load_pem_x509_certificate(subject.gateway.authority(uuid).encode())
    signed = x509.load_pem_x509_certificate(subject.gateway.sign(uuid, pem).encode())
    signed.verify_directly_issued_by(authority)
    assert signed.subject == name
    with pytest.raises(CloudNotFound):
        subject.gateway.authority(NOWHERE)


def test_negative_count_is_refused(subject: Subject) -> None:
    uuid, _ = subject.made_quick()
    with pytest.raises(CloudRejected, match="node_count") as caught:
        subject.gateway.resize(uuid, -1)
    assert_told(caught.value, 400)


# -- refusals -------------------------------------------------------------------------------------------------------------------


def assert_told(error: CloudError, status: int) -> None:
    assert error.upstream_status == status
    assert re.match(r"req-[0-9a-f-]{36}$", error.upstream_request_id or "")
    assert error.executed is False
    assert not error.retryable


@pytest.mark.parametrize(
    "changes,kind,status,words",
    [
        ({"template": "no-such-template"}, CloudNotFound, 404, "ClusterTemplate no-such-template could not be found."),
        ({"template": NOWHERE}, CloudNotFound, 404, f"ClusterTemplate {NOWHERE} could not be found."),
        ({"options": {"flavor_id": "nope"}}, CloudRejected, 400, "Unable to find flavor nope."),
        ({"options": {"master_flavor_id": "nope"}}, CloudRejected, 400, "Unable to find flavor nope."),
        ({"keypair": "nope"}, CloudNotFound, 404, "Unable to find keypair nope."),
        ({"node_count": -1}, CloudRejected, 400, "Invalid input for field/attribute node_count"),
        ({"master_count": 2}, CloudRejected, 400, "master nodegroup size of 2 is invalid"),
        ({"master_count": 3}, CloudRejected, 400, "master_count must be 1 when master_lb_enabled is False"),
        ({"name": "1abc"}, CloudRejected, 400, "Invalid input for field/attribute name"),
        ({"name": "a" * 243}, CloudRejected, 400, "Invalid input for field/attribute name"),
        ({"options": {"no_such_option": 1}}, CloudRejected, 400, "Unknown attribute for argument cluster: no_such_option"),
    ],
    ids=[
        "template",
        "template-id",
        "flavor",
        "master-flavor",
        "keypair",
        "nodes",
        "masters",
        "masters-lb",
        "name",
        "long",
        "option",
    ],
)
def test_wrong_create_is_refused_in_magnums_words(
    subject: Subject, changes: dict[str, Any], kind: type[CloudError], status: int, words: str
) -> None:
    with pytest.raises(kind) as caught:
        subject.create(subject.spec(**changes))
    assert words in caught.value.detail
    assert_told(caught.value, status)


def test_quota_is_told_from_other_refusals(subject: Subject) -> None:
    gateway, limit = subject.cramped()
    for _ in range(limit):
        subject.create(subject.spec(), gateway)
    subject.pause(0.5)
    with pytest.raises(QuotaExceeded, match="maximum clusters per project, 1") as caught:
        subject.create(subject.spec(), gateway)
    assert_told(caught.value, 403)


@pytest.mark.parametrize(
    "call",
    [
        lambda gateway: gateway.resize(NOWHERE, 2),
        lambda gateway: gateway.node_groups(NOWHERE),
        lambda gateway: gateway.page(limit=5, marker=NOWHERE),
    ],
    ids=["resize", "node_groups", "marker"],
)
def test_what_is_not_there_is_not_found(subject: Subject, call: Callable[[Any], Any]) -> None:
    with pytest.raises(CloudNotFound, match="could not be found") as caught:
        call(subject.gateway)
    assert_told(caught.value, 404)


def test_what_is_not_there_can_be_asked_for(subject: Subject) -> None:
    assert subject.gateway.get(NOWHERE) is None
    assert subject.gateway.find("no-such-cluster") is None
    assert subject.gateway.delete(NOWHERE) is False


# -- names and lists --------------------------------------------------------------------------------------------------------------


def test_find_by_name(subject: Subject) -> None:
    name = f"contract-{uuid4().hex[:8]}"
    assert subject.gateway.find(name) is None
    uuid = subject.create(subject.spec(name))
    assert is_set(subject.until(lambda: subject.gateway.find(name), "found")).uuid == uuid


def test_several_of_one_name_can_not_be_told_apart(subject: Subject) -> None:
    name = f"contract-{uuid4().hex[:8]}"
    for uuid in [subject.create(subject.spec(name)) for _ in range(2)]:
        subject.until(lambda u=uuid: subject.gateway.get(u), "there")  # type: ignore[misc]
    with pytest.raises(CloudRejected, match="Multiple clusters exist with same name") as caught:
        subject.gateway.find(name)
    assert (caught.value.reason, caught.value.upstream_status) == ("CLOUD_CONFLICT", 409)


def test_pages_follow_the_order_of_making_and_their_markers(subject: Subject) -> None:
    ours = []
    for _ in range(3):
        ours.append(subject.create(subject.spec()))
        subject.until(lambda: subject.gateway.get(ours[-1]), "there")
    listed: list[str] = []
    marker: str | None = None
    while True:
        page = subject.until(lambda m=marker: (subject.gateway.page(limit=2, marker=m),), "a page")[0]  # type: ignore[misc]
        assert len(page) <= 2
        listed += [item.uuid for item in page]
        if len(page) < 2:
            break
        marker = page[-1].uuid
    assert len(listed) == len(set(listed))
    assert [uuid for uuid in listed if uuid in ours] == ours


def test_a_page_has_what_a_tick_needs(subject: Subject) -> None:
    uuid, _ = subject.made_quick(labels={"workload_type": "x"})
    alone = is_set(subject.gateway.get(uuid))
    listed = next(item for item in subject.gateway.page(limit=1000) if item.uuid == uuid)
    assert listed.updated_at is not None
    assert listed == alone


def test_newest_first_brings_the_last_change_to_the_head(subject: Subject) -> None:
    first, _ = subject.made_quick()
    second, _ = subject.made_quick()
    subject.pause(1.1)
    subject.gateway.resize(first, 2)
    subject.arrived(first, "UPDATE_COMPLETE")
    listed = subject.gateway.page(limit=1000, newest_first=True)
    order = [item.uuid for item in listed]
    assert order.index(first) < order.index(second)
    changed = [item.updated_at for item in listed if item.updated_at is not None]
    assert changed == sorted(changed, reverse=True)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_page_of_nothing_is_refused(subject: Subject, limit: int) -> None:
    with pytest.raises(CloudRejected) as caught:
        subject.gateway.page(limit=limit)
    assert caught.value.upstream_status == 400


# -- who may see and act ------------------------------------------------------------------------------------------------------------


def test_another_project_sees_and_changes_nothing(subject: Subject) -> None:
    spec = subject.spec()
    uuid = subject.create(spec)
    subject.arrived(uuid, "CREATE_COMPLETE")
    stranger = subject.stranger
    assert stranger.get(uuid) is None
    assert stranger.find(spec.name) is None
    assert uuid not in {item.uuid for item in stranger.page(limit=1000)}
    assert stranger.delete(uuid) is False
    for call in (lambda: stranger.resize(uuid, 3), lambda: stranger.node_groups(uuid)):
        with pytest.raises(CloudNotFound):
            call()
    assert is_set(subject.gateway.get(uuid)).node_count == 1


def test_an_administrators_list_names_each_clusters_project(subject: Subject) -> None:
    # Magnum has no filter, and shows an administrator all: whoever lists must be able to tell whose they are.
    gateway, _ = subject.cramped()
    theirs = subject.create(subject.spec(), gateway)
    subject.until(lambda: gateway.get(theirs), "there")
    assert subject.gateway.get(theirs) is None
    projects = {item.uuid: item.project_id for item in subject.until(lambda: (subject.gateway.page(limit=1000),), "a page")[0]}
    assert projects.get(theirs) != subject.scope.project_id


def test_can_act_tells_projects_apart(subject: Subject) -> None:
    assert subject.cloud.can_act(subject.scope) is True
    assert subject.cloud.can_act(subject.forbidden) is False
    with pytest.raises(CloudAuthFailed):
        subject.cloud.gateway(subject.forbidden).get(NOWHERE)


def test_an_application_credential_tells_its_project(subject: Subject) -> None:
    credential_id, secret = subject.application_credential()
    assert subject.cloud.project_of(credential_id, secret) == subject.scope.project_id
    with pytest.raises(CloudAuthFailed):
        subject.cloud.project_of(credential_id, "wrong")


def test_the_cloud_knows_its_own_project_and_its_services(subject: Subject) -> None:
    assert subject.cloud.own_scope().region == subject.scope.region
    assert subject.cloud.own_scope().project_id
    states = subject.cloud.ping()
    assert (states["identity"], states["magnum"]) == ("up", "up")


def test_the_catalog_names_what_a_cluster_can_be_made_of(subject: Subject) -> None:
    catalog = subject.gateway.catalog()
    template = catalog.template(subject.template)
    assert template is not None
    assert (template.flavor, template.master_flavor, template.keypair) == ("gpu.a100.large", "cpu.large", subject.keypair)
    assert template.coe == "kubernetes"
    assert template.master_lb_enabled is False
    assert subject.keypair in catalog.keypairs
    flavor = catalog.flavor("gpu.a100.large")
    assert flavor is not None
    assert (flavor.vcpus, flavor.ram_mb) == (32, 131072)


def test_a_user_s_groups_are_told_to_his_own_token(subject: Subject) -> None:
    user, token, group = subject.in_a_group()
    assert subject.cloud.groups_of(user, token) == [group]


def test_a_token_that_is_none_has_no_groups(subject: Subject) -> None:
    assert subject.cloud.groups_of("0" * 32, "gAAAAAB-no-token") == []
