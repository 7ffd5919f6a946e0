"""One conversation with an OpenStack: the same with real services and with the simulator.

``real.json`` beside this file holds what real ones answered (OpenStack 2026.2, with a Magnum driver that moves clusters by a timer).
``python -m tests.simulator.conversation record`` asks them anew: those of OS_CLOUD in OS_CLIENT_CONFIG_FILE, an administrator, and
of the entries with -operator, -viewer and -outsider after it, a member, a reader and a stranger.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import yaml

from tests.simulator.about_clusters import groups, life, lists
from tests.simulator.about_identity import identity
from tests.simulator.about_neighbours import neighbours
from tests.simulator.about_refusals import refusals, templates
from tests.simulator.recording import RECORDING, read, write
from tests.simulator.talking import Account, Cloud, Talk
from tests.simulator.wishes import clear_clusters


def hold(cloud: Cloud) -> dict[str, Any]:
    """The whole conversation; what was heard, by label. Cleans up before and after itself."""
    talk = Talk(cloud)
    for who in cloud.accounts:
        cloud.sign_in(who)
    _clean(talk)
    try:
        for part in (identity, templates, refusals, life, lists, groups, neighbours):
            part(talk)
    finally:
        _clean(talk)
    return talk.heard


def _clean(talk: Talk) -> None:
    clear_clusters(talk)
    for who in ("operator", "outsider"):
        for template in talk.ask("GET", "/clustertemplates", who=who).json()["clustertemplates"]:
            if template["name"].startswith("talk-"):
                talk.ask("DELETE", f"/clustertemplates/{template['uuid']}", who=who)
    user = talk.cloud.ids["operator"]
    path = f"/users/{user}/application_credentials"
    for held in talk.ask("GET", path, service="identity").json()["application_credentials"]:
        if held["name"].startswith("talk-"):
            talk.ask("DELETE", f"{path}/{held['id']}", service="identity")


def clouds(path: Path, name: str) -> Cloud:
    """The accounts of a clouds.yaml."""
    known = yaml.safe_load(path.read_text(encoding="utf-8"))["clouds"]
    accounts = {}
    for who in ("admin", "operator", "viewer", "outsider"):
        auth = known[name if who == "admin" else f"{name}-{who}"]["auth"]
        project = known[f"{name}-operator"]["auth"]["project_name"] if who == "admin" else auth["project_name"]
        accounts[who] = Account(auth["username"], auth["password"], project)
    return Cloud(known[name]["auth"]["auth_url"], accounts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.conversation", description="Talk to real services.")
    parser.add_argument("command", choices=["record"], help="write down what they answer")
    parser.parse_args()
    heard = hold(clouds(Path(os.environ["OS_CLIENT_CONFIG_FILE"]), os.environ["OS_CLOUD"]))
    write(RECORDING, heard)
    assert read(RECORDING) == heard
    print(f"{len(heard)} answers, {RECORDING.stat().st_size} bytes")  # noqa: T201 - a command's result


if __name__ == "__main__":
    main()
