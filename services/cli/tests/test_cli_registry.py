"""Projects and models on the command line, against a real registry."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.events.catalogue import encode
from mainstem.events.envelope import begin
from mainstem.events.training import RunCompleted
from mainstem.project import load_folder

CHECKOUT = Path(__file__).parents[3]
FLIGHTS = CHECKOUT / "projects" / "flights"
MAINSTEM = Path(sys.executable).parent / "mainstem"


def mainstem(*arguments, env=None):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
    command = (MAINSTEM, *map(str, arguments))
    return subprocess.run(command, env=environment | (env or {}), capture_output=True, text=True, check=False)


def answer(*arguments, env=None):
    done = mainstem(*arguments, "-o", "json", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_sound_folder_is_listed_part_by_part():
    definition = load_folder(FLIGHTS)
    parts = answer("project", "check", FLIGHTS)
    assert parts[0] == {"part": "project", "name": "flights", "definition": definition.id}
    assert [part["name"] for part in parts if part["part"] == "model"] == list(definition.models)


def test_a_broken_folder_is_refused_with_file_line_and_fix(tmp_path):
    (tmp_path / "project.toml").write_text("name = 7")
    done = mainstem("project", "check", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"mainstem: {tmp_path}/project.toml:1: ")


def test_a_folder_that_is_not_there_is_wrong_usage(tmp_path):
    assert mainstem("project", "check", tmp_path / "none").returncode == 2


def test_without_a_platform_models_cannot_be_listed(tmp_path):
    done = mainstem("model", "list", env={"MAINSTEM_REGISTRY_URL": "http://127.0.0.1:9"})
    assert done.returncode == 1
    assert "registry at http://127.0.0.1:9 does not answer" in done.stderr


@pytest.fixture(scope="module")
async def platform(tmp_path_factory):
    root, cache = tmp_path_factory.mktemp("registry"), CHECKOUT / ".mainstem" / "cache"
    async with Platform(root, fast=True, services=["registry", "ledger"], cache=cache) as platform:
        yield platform


def completed_run(number, auc):
    definition = load_folder(FLIGHTS)
    (model,) = definition.models.values()
    fact = RunCompleted(
        run=f"run-{number}", model=model.name, project="flights", cause="request", requested_by="builder",
        definition=definition.id, feature_set=definition.feature_sets[model.feature_set].id,
        dataset="sha256:d", onnx=f"sha256:{number}", profile="sha256:p",
        evidence={
            "evaluation": {"n": 100, "auc": auc, "ece": 0.0}, "parity": {"rows": 9, "flips": 0}, "incumbent": None
        },
    )  # fmt: skip
    return begin(fact, command_id=fact.run, source="/mainstem/training", actor="builder", recorded_us=0)


async def register(platform, *runs):
    """Publish runs and return when the registry has published as many versions."""
    kafka = platform.env["MAINSTEM_KAFKA"]
    async with KafkaBus(kafka, "test") as bus:
        await bus.publisher.publish([encode(run) for run in runs])
    async with asyncio.timeout(30), LogReader(kafka, ["evt.registry.model"]) as reader:
        await reader.start()
        seen = 0
        while seen < len(runs):
            seen += len(await reader.poll())


@pytest.mark.real
async def test_a_model_goes_from_a_folder_into_production(platform):
    def call(*arguments):
        return answer(*arguments, env=dict(platform.env))

    def refused(*arguments):
        done = mainstem(*arguments, env=dict(platform.env))
        assert done.returncode == 1
        return done.stderr

    applied = [await asyncio.to_thread(mainstem, "project", "apply", FLIGHTS, env=dict(platform.env)) for _ in "ab"]
    assert [done.stderr for done in applied] == ["in force\n", "unchanged: it is in force already\n"]
    await register(platform, completed_run(1, auc=0.9), completed_run(2, auc=0.5))
    assert "0 of the 1 approvals" in refused("model", "promote", "arrival_delay", 1)
    assert "AUC 0.5000 on 100 rows" in refused("model", "approve", "arrival_delay", 2)
    at = "2013-05-01T00:00:00.000000Z"
    done = call("model", "approve", "arrival_delay", 1, "-m", "good", "--at", at)
    assert [(row["fact"], row["effective_from"]) for row in done] == [
        ("version_approved", at), ("version_promoted", at), ("deployment_set", at)
    ]  # fmt: skip
    assert "no version before" in refused("model", "rollback", "arrival_delay")
    (listed,) = call("model", "list")
    assert (listed["production"], listed["versions"]) == (1, 2)
    shown = mainstem("model", "show", "arrival_delay", 1, env=dict(platform.env)).stdout
    assert "approved by approver 2013-05-01T00:00:00.000000Z good" in shown
