"""A changed model file, a version that nobody approved and an approval of one's own work are refused, and an event says
so: read with Kafka's stock consumer, headers and all."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiokafka.structs import ConsumerRecord
from tests.system.spring import DAYS, MODEL, Spring
from tests.system.world import Sent, World, fact, headers

from mainstem.inference import open_inference_pb2 as pb

pytestmark = pytest.mark.real

#: What every refusal is, as a CloudEvent.
REFUSED_BY = {
    "evt.registry.model": ("mainstem.registry.change_refused.v1", "/mainstem/registry"),
    "evt.serving.deployment": ("mainstem.serving.deployment_refused.v1", "/mainstem/serving"),
}


@pytest.fixture(scope="module")
async def second(spring: Spring) -> dict[str, Any]:
    """Return version 2 as it was registered: the foreman asked for it, nobody has approved it."""
    return await spring.trained(2, DAYS - 1, by="foreman")


@pytest.fixture(scope="module")
async def deployed(world: World, spring: Spring) -> ConsumerRecord:
    """Return the record that put version 1 into production."""
    return await world.event("state.deployment", "version 1 in production", version=1)


async def refusal(world: World, topic: str, **wanted: object) -> dict[str, Any]:
    """Return the refusal with these fields, once its headers are seen to be right."""
    record = await world.event(topic, f"a refusal with {wanted}", **wanted)
    found = headers(record)
    assert record.key == MODEL.encode()
    assert (found["ce_type"], found["ce_source"]) == REFUSED_BY[topic]
    assert (found["ce_specversion"], found["ce_subject"], found["content-type"]) == ("1.0", MODEL, "application/json")
    assert min(len(found[name]) for name in ("ce_id", "ce_correlationid", "ce_causationid", "ce_origin")) > 0
    return fact(record) | {"actor": found["ce_actor"]}


async def answering(spring: Spring) -> int:
    """Return the version that answers."""
    answer = await spring.ask()
    assert answer.status_code == 200, answer.text
    return int(answer.json()["model_version"])


async def test_a_version_that_nobody_approved_is_not_promoted(
    world: World, spring: Spring, second: dict[str, Any]
) -> None:
    answer = await spring.decide("versions/2/promote", by="operator")
    assert (answer.status_code, answer.json()["type"]) == (409, "mainstem:approvals")
    found = await refusal(world, "evt.registry.model", rule="approvals")
    assert (found["version"], found["request"], found["requested_by"]) == (2, "promote", "operator")
    assert found["actor"] == "operator"
    assert found["reason"] == "wear version 2 has 0 of the 1 approvals that tier low asks for"


async def test_a_version_that_nobody_approved_does_not_answer_over_http(spring: Spring, second: dict[str, Any]) -> None:
    answer = await spring.ask(version=2)
    assert (answer.status_code, answer.json()) == (404, {"error": "model 'wear' answers in version 1, not '2'"})


async def test_nor_does_it_over_grpc(world: World, spring: Spring, second: dict[str, Any]) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="answers in version 1, not '2'") as raised:
        await asked_over_grpc(world, "2")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert (await asked_over_grpc(world, "1")).model_version == "1"


async def asked_over_grpc(world: World, version: str) -> pb.ModelInferResponse:
    """Ask the model about a lift."""
    request = pb.ModelInferRequest(model_name=MODEL, model_version=version)
    request.inputs.add(name="features", datatype="FP64", shape=[1, 3]).contents.fp64_contents.extend([90, 20, 50])
    async with grpc.aio.insecure_channel(world.env["MAINSTEM_SERVING_GRPC"]) as channel:
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        return await ask(request)


@pytest.mark.parametrize("claims", ["version 2", "version 1 with the file of version 2"])
async def test_a_forged_deployment_of_a_version_that_nobody_approved_is_refused(
    world: World, spring: Spring, second: dict[str, Any], deployed: ConsumerRecord, claims: str
) -> None:
    async with world.unharmed():
        version = 2 if claims == "version 2" else 1
        await world.send("state.deployment", forged(deployed, claims, version=version, onnx=second["onnx"]))
        found = await refusal(world, "evt.serving.deployment", rule="not_approved", version=version)
        assert found["reason"] == (
            f"no approval of wear version {version} with digest {second['onnx']} is known; approve it, then promote it"
        )
        assert await answering(spring) == 1


async def test_a_forged_deployment_of_an_approved_version_that_nobody_promoted_again_is_refused(
    world: World, spring: Spring, deployed: ConsumerRecord
) -> None:
    async with world.unharmed():
        await world.send("state.deployment", forged(deployed, "again", effective_from="2024-03-20T00:00:00Z"))
        found = await refusal(world, "evt.serving.deployment", rule="not_promoted", version=1)
        assert found["reason"] == "no promotion of wear version 1 led to this deployment and to no other; promote it"


def forged(deployed: ConsumerRecord, event_id: str, **changed: object) -> Sent:
    """Return a deployment that differs from a real one in a few fields, as somebody with access to the broker would."""
    given = [(name, event_id.encode() if name == "ce_id" else value) for name, value in unplaced(deployed)]
    return Sent(json.dumps(fact(deployed) | changed).encode(), deployed.key, given)


def unplaced(deployed: ConsumerRecord) -> list[tuple[str, bytes]]:
    """Return the headers without the origin, by which a second copy would be known and dropped."""
    return [(name, value) for name, value in deployed.headers if name != "ce_origin"]


@pytest.mark.parametrize("value", [None, b"{", b'{"model":"wear"}'])
async def test_a_forged_deployment_that_is_no_deployment_changes_nothing(
    world: World, spring: Spring, deployed: ConsumerRecord, value: bytes | None
) -> None:
    async with world.unharmed():
        before = await parked(world)
        await world.send("state.deployment", Sent(value, deployed.key, unplaced(deployed)))
        await world.until(lambda: more_parked(world, before))
        assert await answering(spring) == 1


async def more_parked(world: World, before: float) -> bool:
    """Tell whether serving has put one more deployment aside."""
    return await parked(world) == before + 1


async def parked(world: World) -> float:
    """Return how many records of the deployments serving has put aside."""
    lines = (await world.get("serving", "/metrics")).text.splitlines()
    name = 'mainstem_records_parked_total{topic="state.deployment"}'
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def test_a_builder_without_the_role_may_not_approve(world: World, spring: Spring, second: dict[str, Any]) -> None:
    answer = await spring.approve(2, by="builder")
    assert (answer.status_code, answer.json()["type"]) == (403, "mainstem:approver_role")
    assert answer.json()["detail"] == "builder has no role that may approve; ask an approver"
    found = await refusal(world, "evt.registry.model", rule="approver_role")
    assert (found["version"], found["request"], found["requested_by"]) == (2, "approve", "builder")


async def test_an_approver_may_not_approve_the_run_they_asked_for(
    world: World, spring: Spring, second: dict[str, Any]
) -> None:
    answer = await spring.approve(2, by="foreman")
    assert (answer.status_code, answer.json()["type"]) == (409, "mainstem:separation_of_duties")
    found = await refusal(world, "evt.registry.model", rule="separation_of_duties")
    assert (found["version"], found["request"], found["requested_by"]) == (2, "approve", "foreman")
    assert found["reason"] == "foreman touched its run; ask an approver who did not"
    assert answer.json()["detail"] == found["reason"]
    assert await answering(spring) == 1


@contextmanager
def one_bit_changed(world: World, digest: str) -> Iterator[None]:
    """Change the last byte of an artifact for as long as the block runs."""
    name = digest.removeprefix("sha256:")
    file = Path(world.env["MAINSTEM_ARTIFACTS"]) / name[:2] / name
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        yield
    finally:
        file.write_bytes(content)


async def test_a_file_changed_before_its_approval_took_effect_is_refused_and_the_version_before_goes_on(
    world: World, spring: Spring, second: dict[str, Any]
) -> None:
    async with world.unharmed():
        with one_bit_changed(world, second["onnx"]):
            assert (await spring.approve(2, by="approver")).json()["promoted"] is True
            found = await refusal(world, "evt.serving.deployment", rule="artifact_digest")
        assert (found["model"], found["version"]) == (MODEL, 2)
        assert f"artifact {second['onnx']} holds bytes of sha256:" in found["reason"]
        assert "it was changed after it was stored" in found["reason"]
        assert await answering(spring) == 1


async def test_a_rollback_then_names_what_answers_anyway(world: World, spring: Spring, second: dict[str, Any]) -> None:
    done = (await spring.decide("rollback", by="operator")).json()
    assert done["promoted"] is True
    since = done["effective_from"]
    await world.event("evt.serving.deployment", "version 1 answers again", version=1, effective_from=since)
    assert await answering(spring) == 1


@pytest.fixture
async def restarted(world: World) -> AsyncIterator[None]:
    """Leave serving ready, whatever became of it."""
    yield
    await world.platform.ready("serving")


async def test_a_file_changed_while_serving_was_down_answers_nothing_until_it_is_mended(
    world: World, spring: Spring, deployed: ConsumerRecord, restarted: None
) -> None:
    with one_bit_changed(world, digest := fact(deployed)["onnx"]):
        world.platform.kill("serving")
        await world.until(lambda: unready(world, f"artifact {digest} holds bytes of sha256:"))
        answer = await spring.ask()
        why = f"wear version 1 is not loaded: artifact {digest} holds bytes of sha256:"
        assert (answer.status_code, why in answer.json()["error"]) == (503, True)
        lost = fact(await world.event("evt.serving.deployment", "the loss", rule="artifact_digest", onnx=digest))
        assert (lost["version"], "it was changed after it was stored" in lost["reason"]) == (1, True)
    await world.until(world.ready)
    assert await answering(spring) == 1


async def unready(world: World, why: str) -> bool:
    """Tell whether serving says so."""
    told = (await world.get("serving", "/readyz")).json()
    return why in told.get("faults", {}).get("models", "")
