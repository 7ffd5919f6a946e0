"""`make verify-openstack` against the simulator, and against what is no OpenStack."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulator.testing import Running, running_simulator

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Running]:
    with running_simulator() as running:
        yield running


def verify(**environ: str) -> tuple[int, str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OS_", "MAGNUM_"))}
    ran = subprocess.run(
        [sys.executable, "-m", "infrastructure.verify"],
        cwd=ROOT,
        env={**clean, "OS_TIMEOUT": "5", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr


def test_everything_is_found(simulator: Running) -> None:
    code, out, _ = verify(OS_AUTH_URL=simulator.auth_url, OS_PASSWORD="secretpassword")
    assert code == 0, out
    assert "gpu-intensive-template" in out
    assert "gpu.a100.large (4 x nvidia-a100)" in out
    assert "k8s_capi_helm_v1: Cluster API by Helm (magnum-capi-helm); chooses itself which nodes go" in out
    assert "secretpassword" not in out


def test_a_version_that_never_existed_is_lowered_and_said(simulator: Running) -> None:
    code, out, _ = verify(OS_AUTH_URL=simulator.auth_url, OS_PASSWORD="secretpassword", MAGNUM_API_VERSION="1.15")
    assert code == 0
    assert "warn  microversion" in out
    assert "1.14 is used" in out


def test_a_wrong_password_fails_and_is_not_repeated(simulator: Running) -> None:
    code, out, err = verify(OS_AUTH_URL=simulator.auth_url, OS_PASSWORD="not-the-password")
    assert code == 1
    assert "fail  token" in out
    assert "not-the-password" not in out + err


def test_a_reader_can_make_nothing(simulator: Running) -> None:
    code, out, err = verify(OS_AUTH_URL=simulator.auth_url, OS_USERNAME="viewer", OS_PASSWORD="viewer-password")
    assert code == 1
    assert "the role member is needed" in out
    assert "roles" in err


def test_a_closed_port_is_said(free_port: Callable[[], int]) -> None:
    code, out, _ = verify(OS_AUTH_URL=f"http://127.0.0.1:{free_port()}/v3", OS_PASSWORD="x")
    assert code == 1
    assert "Unable to establish connection" in out


def test_another_region_is_missing_from_the_catalog(simulator: Running) -> None:
    code, out, _ = verify(OS_AUTH_URL=simulator.auth_url, OS_PASSWORD="secretpassword", OS_REGION_NAME="Nowhere")
    assert code == 1
    assert "the catalog names no container-infra in region Nowhere" in out


def test_missing_variables_are_all_named() -> None:
    code, _, err = verify()
    assert code == 1
    assert "OS_AUTH_URL" in err
    assert "OS_PASSWORD" in err
