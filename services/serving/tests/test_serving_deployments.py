"""Decisions on deployments: nothing serves that was not approved byte for byte."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto

from mainstem.events.envelope import Event
from mainstem.events.instants import render
from mainstem.events.serving import DeploymentActivated, DeploymentRefused
from mainstem.inference.errors import NotReady
from mainstem.serving.engine import BadSignature, Model
from mainstem.testkit.waiting import running, until


async def decided(service, version):
    """Let the service decide until there is a verdict, and return it."""
    async with running(service.deployments.run()):
        await until(lambda: f"deployment {version}" in service.store.verdicts)
    return service.store.verdicts[f"deployment {version}"].fact


async def test_an_approved_version_is_activated_from_the_first_offset_not_scored(service, make):
    await service.take(make.row(6), make.row(2, partition=1))
    service.past.said[make.topic][1] = 11
    fact = await service.deploy(at=make.may)
    assert fact == DeploymentActivated(
        model="storm",
        version=1,
        onnx=service.board.live("storm").onnx,
        effective_from=render(make.may),
        from_offsets={"0": 7, "1": 12},
    )


async def test_the_verdict_follows_from_the_deployment(service, make):
    await service.deploy()
    envelope = service.store.verdicts["deployment 1"].envelope
    cause = make.deployment(1).envelope
    assert (envelope.causation, envelope.recorded_us) == (cause.id, cause.recorded_us)
    assert envelope.correlation == cause.correlation


async def test_an_unapproved_version_is_refused_after_a_while(service, make):
    await service.store.apply(make.deployment(1, service.artifacts.put(make.onnx_model())))
    fact = await decided(service, 1)
    assert isinstance(fact, DeploymentRefused)
    assert fact.rule == "not_approved"


async def test_the_approval_of_another_digest_is_none(service, make):
    await service.store.apply(make.approval(1, service.artifacts.put(make.onnx_model())))
    await service.store.apply(make.deployment(1, service.artifacts.put(make.onnx_model(bias=1))))
    assert (await decided(service, 1)).rule == "not_approved"


async def test_an_approval_that_comes_after_the_deployment_is_waited_for(service, make):
    digest = service.artifacts.put(make.onnx_model())
    await service.store.apply(make.deployment(1, digest))
    for decision in (make.approval(1, digest), make.promotion(1)):
        await service.deployments.decide()
        assert service.store.verdicts == {}
        await service.store.apply(decision)
    await service.deployments.decide()
    assert service.board.live("storm").version == 1


async def test_a_deployment_that_no_promotion_led_to_is_refused(service, make):
    digest = service.artifacts.put(make.onnx_model())
    for event in (make.approval(1, digest), make.promotion(2), make.deployment(1, digest)):
        await service.store.apply(event)
    assert (await decided(service, 1)).rule == "not_promoted"


async def test_a_promotion_leads_to_one_deployment_only(service, make):
    await service.deploy(1)
    real = make.deployment(1, service.board.live("storm").onnx, at=make.may + 1)
    await service.store.apply(Event(replace(real.envelope, id="deployment 2"), real.fact))
    assert (await decided(service, 2)).rule == "not_promoted"


async def test_a_deployment_that_waits_does_not_hold_up_another(service, make):
    await service.store.apply(make.deployment(1, service.artifacts.put(make.onnx_model(bias=2))))
    await service.deploy(2)
    assert service.board.live("storm").version == 2
    assert "deployment 1" not in service.store.verdicts


async def approved(service, make, content, **deployment):
    digest = service.artifacts.put(content)
    for event in (make.approval(2, digest), make.promotion(2), make.deployment(2, digest, **deployment)):
        await service.store.apply(event)
    return digest


@pytest.fixture
async def live(service):
    """Version 1 answers."""
    await service.deploy(1)
    yield
    assert service.board.live("storm").version == 1


@pytest.mark.usefixtures("live")
async def test_one_changed_byte_is_refused_and_the_old_version_goes_on(service, make, tmp_path):
    digest = await approved(service, make, make.onnx_model(bias=2))
    place = tmp_path / "artifacts" / digest[7:9] / digest[7:]
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    fact = await decided(service, 2)
    assert fact.rule == "artifact_digest"
    assert digest in fact.reason


@pytest.mark.usefixtures("live")
async def test_a_missing_artifact_is_refused(service, make, tmp_path):
    digest = await approved(service, make, make.onnx_model(bias=2))
    (tmp_path / "artifacts" / digest[7:9] / digest[7:]).unlink()
    assert (await decided(service, 2)).rule == "artifact_digest"


@pytest.mark.usefixtures("live")
async def test_a_version_that_a_worker_cannot_load_is_refused_and_the_old_one_goes_on(service, make):
    service.elsewhere.faults = ["worker 1: no room"] * 3
    fact = await service.deploy(2, bias=2)
    assert (fact.rule, "worker 1: no room" in fact.reason) == ("workers", True)


async def test_a_worker_that_can_load_it_the_second_time_has_nothing_refused(service):
    service.elsewhere.faults = ["worker 1: no room"]
    assert isinstance(await service.deploy(), DeploymentActivated)


@pytest.mark.usefixtures("live")
async def test_a_model_of_another_width_than_the_features_is_refused(service, make):
    await approved(service, make, make.onnx_model(bias=2), features=["wind", "rain"])
    fact = await decided(service, 2)
    assert fact.rule == "signature"
    assert "width 2" in fact.reason


@pytest.mark.usefixtures("live")
async def test_bytes_that_are_no_model_are_refused(service, make):
    await approved(service, make, b"no model")
    fact = await decided(service, 2)
    assert fact.rule == "intake"
    assert "no ONNX model" in fact.reason


@pytest.mark.usefixtures("live")
async def test_a_model_that_is_not_finite_is_refused(service, make):
    await approved(service, make, make.onnx_model(bias=np.nan))
    fact = await decided(service, 2)
    assert (fact.rule, fact.reason) == ("intake", "output 'probabilities' is not finite for zeros (1 in a batch)")


async def test_a_model_that_was_activated_passes_no_gate_again(service):
    await service.deploy(1)
    again, asked = service.restarted(), list[bytes]()
    again.loader._gate = asked.append
    await again.deployments.restore()
    await again.loader.load(again.board.live("storm").onnx, 3)
    assert asked == []
    await again.deploy(2, bias=1)
    assert len(asked) == 1


@pytest.mark.usefixtures("live")
async def test_a_time_that_cannot_be_read_is_refused(service, make):
    await approved(service, make, make.onnx_model(bias=2), effective_from="noon")
    assert (await decided(service, 2)).rule == "effective_from"


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ({"output": "p"}, "'probabilities'"),
        ({"kind": TensorProto.FLOAT}, "float64"),
        ({"given": 1}, "two finite"),
        ({"bias": np.nan}, "two finite"),
    ],
    ids=["no probabilities", "float32", "one column", "not a number"],
)
def test_a_model_of_another_form_is_refused_with_what_was_found(make, shape, told):
    with pytest.raises(BadSignature, match=told):
        Model(make.onnx_model(**shape), 3)


async def test_a_restarted_process_answers_by_what_is_stored_alone(service):
    await service.deploy(1)
    await service.deploy(2, bias=1)
    again = service.restarted()
    await again.deployments.restore()
    assert again.board.live("storm").version == 2
    assert again.board.fault() is None


async def test_a_version_whose_artifact_is_away_at_the_start_is_named_and_loaded_later(service, make, tmp_path):
    await service.deploy()
    digest = service.board.live("storm").onnx
    place = tmp_path / "artifacts" / digest[7:9] / digest[7:]
    content = place.read_bytes()
    place.unlink()
    again = service.restarted()
    await again.deployments.restore()
    assert "model storm version 1: no artifact" in again.board.fault()
    with pytest.raises(NotReady, match=r"version 1 is not loaded: no artifact [^;]*; put it back [^;]*$"):
        again.board.about("storm", None)
    place.write_bytes(content)
    async with running(again.deployments.run()):
        await until(lambda: again.board.fault() is None)
    assert [rule for _, rule, _ in again.store.losses] == ["artifact_digest"]


async def test_rows_published_by_an_earlier_process_stay_with_their_version(service, make):
    await service.deploy(1)
    records = [make.row(offset) for offset in range(5)]
    await service.take(*records)
    again = service.restarted()  # nothing was stored since the start
    await again.deployments.restore()
    again.past.said[make.topic][0] = 4
    await again.deploy(2, bias=1)
    await again.take(*records, make.row(5))
    values = [record.value for record in service.log.records]
    assert values[5:10] == values[:5]
    assert b'"version":2' in values[10]


def quoting(service, make, scores, **shape):
    """Store a profile that quotes rows and says what they score; return its address."""
    rows = [[1.0, None, 3.0], [0.0, 0.5, -1.0]]
    given = make.expected([[np.nan if v is None else v for v in row] for row in rows], **shape)
    document = {"rows": 2, "reference": {"rows": rows, "scores": (given + scores).tolist()}}
    return service.artifacts.put(json.dumps(document).encode())


async def test_a_version_that_scores_its_reference_rows_as_its_evidence_says_is_activated(service, make):
    fact = await service.deploy(1, bias=0.5, profile=quoting(service, make, 1e-12, bias=0.5))
    assert isinstance(fact, DeploymentActivated)


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize(
    ("off", "bias", "said"), [([0, 1e-6], 2.0, "row 1 scores .*, its evidence says"), (0, 1.0, "not what was judged")]
)
async def test_a_version_that_scores_otherwise_is_refused_and_the_old_one_goes_on(service, make, off, bias, said):
    fact = await service.deploy(2, bias=2.0, profile=quoting(service, make, np.array(off), bias=bias))
    assert fact.rule == "reference"
    assert re.search(said, fact.reason)


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (b'{"reference": {"rows": [[1.0]], "scores": [1.0]}}', "have shape [1, 1], not [1, 3]"),
        (b"no JSON", "the reference profile cannot be read"),
    ],
)
async def test_evidence_that_cannot_be_held_against_a_version_refuses_it(service, profile, said):
    fact = await service.deploy(2, bias=2.0, profile=service.artifacts.put(profile))
    assert (fact.rule, said in fact.reason) == ("reference", True)


@pytest.mark.usefixtures("live")
async def test_a_version_that_fails_on_its_reference_rows_is_refused(service, make):
    fact = await service.deploy(2, bias=2.0, known=3, profile=quoting(service, make, 0, bias=2.0))
    assert (fact.rule, "fails on the reference rows" in fact.reason) == ("reference", True)


@pytest.mark.usefixtures("live")
async def test_a_version_whose_evidence_is_gone_is_refused(service):
    fact = await service.deploy(2, bias=2.0, profile="sha256:" + "0" * 64)
    assert (fact.rule, "no artifact sha256:000" in fact.reason) == ("artifact_digest", True)
