"""Webhooks over the loopback: told with the transaction or not at all, signed, tried again, given up."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from deployment.local.ports import free_port
from shared.errors import Conflict, InvalidRequest, NotFound
from shared.outbound import Outbound
from shared.services.credentials import Vault
from shared.services.webhooks import TRIES, WebhookService, enqueue, pause_s
from tests.builders import OTHER_PROJECT, PROJECT, an_actor
from tests.receiver import Receiver, receiving
from tests.rehearsal import Rehearsal

SECRET = "a secret of the receiver's"


@pytest.fixture
def world(database_url: str) -> Iterator[Rehearsal]:
    made = Rehearsal(database_url)
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def add(world: Rehearsal, receiver: Receiver, **fields: Any) -> dict[str, Any]:
    return world.webhooks.create(world.actor, {"url": receiver.url, "secret": SECRET} | fields)


def tell(world: Rehearsal, event: str = "cleanup.notified", project: str = PROJECT, **payload: Any) -> UUID:
    with world.database.begin() as uow:
        return enqueue(uow, project, event, payload)


def deliveries(world: Rehearsal) -> list[dict[str, Any]]:
    return world.rows("SELECT state, attempts, last_status, last_error FROM webhook_deliveries ORDER BY seq")


def test_an_event_is_posted_once_and_signed(world: Rehearsal, receiver: Receiver) -> None:
    add(world, receiver)
    event_id = tell(world, cluster_id="c1")
    assert world.webhooks.deliver().delivered == 1
    assert world.webhooks.deliver().delivered == 0
    (post,) = receiver.posts
    assert (post.told["id"], post.told["event"], post.told["project_id"]) == (str(event_id), "cleanup.notified", PROJECT)
    assert post.told["data"] == {"cluster_id": "c1"}
    assert (post.path, post.headers["Kcloud-Event"], post.headers["Content-Type"]) == (
        "/hook",
        "cleanup.notified",
        "application/json",
    )
    assert post.is_signed(SECRET)
    assert not post.is_signed("another secret than that")
    post.body += b" "
    assert not post.is_signed(SECRET)
    assert deliveries(world) == [{"state": "delivered", "attempts": 1, "last_status": 204, "last_error": None}]


def test_what_is_rolled_back_is_never_told(world: Rehearsal, receiver: Receiver) -> None:
    add(world, receiver)

    def fail() -> None:
        with world.database.begin() as uow:
            enqueue(uow, PROJECT, "cleanup.notified", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    world.webhooks.deliver()
    assert receiver.posts == []


def test_only_those_that_want_it_are_told(world: Rehearsal, receiver: Receiver) -> None:
    add(world, receiver, url=f"{receiver.url}/all")
    add(world, receiver, url=f"{receiver.url}/cleanup", events=["cleanup.*"])
    add(world, receiver, url=f"{receiver.url}/marked", events=["cleanup.marked", "cleanup.active"])
    world.webhooks.create(an_actor(OTHER_PROJECT), {"url": f"{receiver.url}/theirs"})
    tell(world, "cleanup.notified")
    tell(world, "plans.approved")
    world.webhooks.deliver()
    told = sorted((post.path, post.told["event"]) for post in receiver.posts)
    assert told == [("/hook/all", "cleanup.notified"), ("/hook/all", "plans.approved"), ("/hook/cleanup", "cleanup.notified")]


def test_a_refusal_is_tried_again_later_each_time_later_than_before(world: Rehearsal, receiver: Receiver) -> None:
    add(world, receiver)
    tell(world)
    receiver.statuses = [500, 404, 204]
    assert world.webhooks.deliver().refused == 1
    assert world.webhooks.deliver().refused == 0  # not before its time
    world.clock.advance(12.5)
    assert world.webhooks.deliver().refused == 1
    world.clock.advance(12.5)
    assert world.webhooks.deliver().delivered == 0
    world.clock.advance(12.5)
    assert world.webhooks.deliver().delivered == 1
    assert deliveries(world) == [{"state": "delivered", "attempts": 3, "last_status": 204, "last_error": None}]
    assert len({post.headers["Kcloud-Delivery"] for post in receiver.posts}) == 1
    assert len({post.body for post in receiver.posts}) == 1
    assert all(post.is_signed(SECRET) for post in receiver.posts)  # with a new time each


def test_pauses_double_up_to_an_hour() -> None:
    for attempts, least in [(1, 10), (2, 20), (5, 160), (9, 2560), (10, 3600), (60, 3600)]:
        assert least <= pause_s(attempts) <= least * 1.2
    assert sum(10 * 2**n for n in range(TRIES - 1)) / 3600 == pytest.approx(1.42, abs=0.01)


def test_after_ten_tries_it_is_given_up(world: Rehearsal, receiver: Receiver) -> None:
    add(world, receiver)
    tell(world)
    receiver.statuses = [503] * 20
    for _ in range(14):
        world.webhooks.deliver()
        world.clock.advance(3600 * 1.2)
    assert len(receiver.posts) == TRIES
    assert deliveries(world) == [{"state": "failed", "attempts": TRIES, "last_status": 503, "last_error": "It answered 503."}]
    (shown,) = world.webhooks.all(world.actor)
    assert (shown["failed"], shown["pending"], shown["last_error"]) == (1, 0, "It answered 503.")


def test_a_redirect_is_not_followed(world: Rehearsal, receiver: Receiver) -> None:
    add(world, receiver)
    tell(world)
    receiver.statuses, receiver.location = [307], receiver.url
    world.webhooks.deliver()
    assert len(receiver.posts) == 1
    assert deliveries(world)[0]["last_error"] == "It answered 307; redirects are not followed."


def test_a_receiver_that_fails_keeps_no_other_from_its_posts(world: Rehearsal, receiver: Receiver) -> None:
    world.webhooks.create(world.actor, {"url": f"http://127.0.0.1:{free_port()}/dead"})
    add(world, receiver)
    for _ in range(5):
        tell(world)
    found = world.webhooks.deliver()
    assert (found.delivered, found.refused) == (5, 1)  # one try a round for the one that is dead


def test_a_receiver_that_drips_is_cut_off(world: Rehearsal, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.outbound._WHOLE_S", 1.0)
    add(world, receiver)
    tell(world)
    receiver.hang = threading.Event()
    began = time.monotonic()
    assert world.webhooks.deliver().refused == 1
    assert time.monotonic() - began < 5
    receiver.hang.set()
    assert deliveries(world)[0]["state"] == "pending"


def test_a_sender_that_dies_costs_a_try_and_nothing_else(world: Rehearsal, receiver: Receiver) -> None:
    add(world, receiver)
    tell(world)
    with world.database.begin() as uow:
        due = uow.webhooks.claim(tries=TRIES, lease_s=60, skip=[])
    assert due is not None
    assert world.webhooks.deliver().delivered == 0  # another has it
    world.clock.advance(61)
    assert world.webhooks.deliver().delivered == 1
    with world.database.begin() as uow:
        uow.webhooks.refused(due, status=None, error="late", again_s=1)  # the dead one's last words
    assert deliveries(world)[0]["state"] == "delivered"


def test_one_whose_last_sender_died_is_given_up(world: Rehearsal, receiver: Receiver) -> None:
    add(world, receiver)
    tell(world)
    world.execute("UPDATE webhook_deliveries SET attempts = 10, due_at = now() - interval '1 s'")
    assert world.webhooks.deliver().given_up == 1
    assert receiver.posts == []


def test_two_senders_at_once_post_each_once(world: Rehearsal, receiver: Receiver) -> None:
    add(world, receiver)
    for _ in range(30):
        tell(world)
    threads = [threading.Thread(target=world.webhooks.deliver) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({post.headers["Kcloud-Delivery"] for post in receiver.posts}) == len(receiver.posts) == 30


def test_the_secret_is_kept_encrypted_and_shown_once(world: Rehearsal, receiver: Receiver) -> None:
    made = world.webhooks.create(world.actor, {"url": receiver.url})
    assert len(made["secret"]) >= 32
    (row,) = world.rows("SELECT secret FROM webhooks")
    assert made["secret"].encode() not in bytes(row["secret"])
    assert world.vault.open(bytes(row["secret"])) == made["secret"]
    assert "secret" not in world.webhooks.all(world.actor)[0]
    tell(world)
    world.webhooks.deliver()
    assert receiver.posts[0].is_signed(made["secret"])


def test_without_a_key_there_are_no_webhooks(world: Rehearsal, receiver: Receiver) -> None:
    keyless = WebhookService(world.database, Vault(None), Outbound(["127.0.0.0/8"]), world.clock)
    with pytest.raises(Conflict) as refused:
        keyless.create(world.actor, {"url": receiver.url})
    assert refused.value.reason == "NO_SECRET_KEY"
    add(world, receiver)
    tell(world)
    assert keyless.deliver().refused == 1
    assert "KCLOUD_SECRET_KEY" in str(deliveries(world)[0]["last_error"])


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/", "http://10.1.2.3/", "http://[::ffff:10.0.0.1]/"),
        *("http://[64:ff9b::a00:1]/", "http://[2002:a00:1::1]/", "http://[fe80::1%251]/", "http://224.0.0.1/", "http://0.0.0.0/"),
    ],
)
def test_addresses_inside_are_refused_at_once(world: Rehearsal, url: str) -> None:
    strict = WebhookService(world.database, world.vault, Outbound(), world.clock)
    with pytest.raises(InvalidRequest) as refused:
        strict.create(world.actor, {"url": url})
    assert [(one.field, one.rule) for one in refused.value.errors] == [("url", "address")]
    assert "WEBHOOK_NETWORKS" in refused.value.errors[0].detail


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "https:///x", "https://user:pass@example.com/", "https://example.com/#x", "https://example.com:99999/"],
)
def test_what_is_no_address_of_a_receiver_is_refused(world: Rehearsal, url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        world.webhooks.create(world.actor, {"url": url, "events": ["clenup.*"]})
    assert {one.field for one in refused.value.errors} == {"url", "events"}


def test_a_name_that_leads_inside_is_found_when_it_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(receiver.url.split(":")[2].split("/")[0])
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: answer)
    url = f"http://hooks.example.com:{port}/hook"
    strict = Outbound(["10.0.0.0/8"])
    assert strict.forbids(url) is None
    found = strict.post(url, b"{}", {})
    assert found.status is None
    assert "127.0.0.1 is not a public address" in str(found.error)
    assert receiver.posts == []
    assert Outbound(["127.0.0.0/8"]).post(url, b"{}", {}).status == 204
    assert receiver.posts[0].headers["Host"] == f"hooks.example.com:{port}"


def test_no_more_than_twenty_a_project(world: Rehearsal) -> None:
    for number in range(20):
        world.webhooks.create(world.actor, {"url": f"https://hooks.example.com/{number}"})
    with pytest.raises(Conflict) as refused:
        world.webhooks.create(world.actor, {"url": "https://hooks.example.com/more"})
    assert refused.value.reason == "TOO_MANY_WEBHOOKS"


def test_deliveries_go_with_their_webhook_and_with_time(world: Rehearsal, receiver: Receiver) -> None:
    made = add(world, receiver)
    tell(world)
    assert [one["state"] for one in world.webhooks.deliveries(world.actor, made["id"])] == ["pending"]
    with pytest.raises(NotFound):
        world.webhooks.deliveries(an_actor(OTHER_PROJECT), made["id"])
    world.webhooks.deliver()
    world.clock.advance(31 * 86_400)
    tell(world)
    with world.database.begin() as uow:
        assert uow.webhooks.forget_old(days=30) == 1
    world.webhooks.delete(world.actor, made["id"])
    assert deliveries(world) == []
    with pytest.raises(NotFound):
        world.webhooks.delete(world.actor, made["id"])


def test_cleanup_tells_of_each_stage_and_waits_for_its_notice(world: Rehearsal, receiver: Receiver) -> None:
    add(world, receiver, events=["cleanup.*"])
    world.policy()
    cluster = world.make()
    receiver.statuses = [500]
    world.until(cluster, "notified")
    for _ in range(3):
        world.sweep(0.1)
    assert world.stage(cluster) == "notified"  # somebody has yet to be told
    world.clock.advance(60)
    world.webhooks.deliver()
    world.until(cluster, "deleting")
    world.webhooks.deliver()
    told = [post.told for post in receiver.posts[1:]]
    assert sorted(one["event"] for one in told) == ["cleanup.confirmed", "cleanup.deleting", "cleanup.marked", "cleanup.notified"]
    first = next(one for one in told if one["event"] == "cleanup.notified")["data"]
    assert (first["cluster_id"], first["action"], first["dry_run"]) == (str(cluster.id), "hibernate", False)
    assert first["cancel"] == f"/cleanup/candidates/{cluster.id}/cancel"
    last = next(one for one in told if one["event"] == "cleanup.deleting")["data"]
    assert last["job_id"] == str(world.unfinished()[0]["id"])


def test_a_notice_that_nobody_takes_does_not_hold_a_cluster_for_ever(world: Rehearsal) -> None:
    world.webhooks.create(world.actor, {"url": f"http://127.0.0.1:{free_port()}/dead"})
    world.policy()
    cluster = world.make()
    world.until(cluster, "notified")
    for _ in range(13):
        world.sweep(25)
        world.webhooks.deliver()
    assert ("notified", "marked", "NOTICE_OUT") in world.way_of(cluster)
    assert "failed" in [one["state"] for one in deliveries(world)]
