"""What the metrics say of direct calls, by model and version."""

from math import inf
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from mainstem.inference.errors import BadRequest
from mainstem.serving.lookups import Lookups
from mainstem.serving.meters import tell_ages, tell_away
from mainstem.serving.ports import Question
from mainstem.telemetry import Tracer, metrics

ROWS = np.array([[1.0, np.nan, 3.0], [0.0, 0.5, -1.0]])
PARENT = b"00-9bf92f3577b34da6a3ce929d0e0e4739-00f067aa0ba902b7-01"


def told(name, **labels):
    """Return the value of a sample of the metrics, 0 where there is none yet."""
    for family in metrics.REGISTRY.collect():
        for sample in family.samples:
            if sample.name == f"mainstem_{name}" and sample.labels == labels:
                return sample.value
    return 0


class Since:
    """How far samples rose since they were named."""

    def __init__(self, **samples):
        self._samples = {key: (name, labels) for key, (name, labels) in samples.items()}
        self._before = self._now()

    def _now(self):
        return {key: told(name, **labels) for key, (name, labels) in self._samples.items()}

    def __call__(self):
        return {key: value - self._before[key] for key, value in self._now().items()}


def question(name="q", channel="http", rows=ROWS, **said):
    return Question("storm", said.pop("version", None), name, channel, rows, **said)


async def test_calls_and_runs_are_counted_by_version_on_both_transports(service):
    await service.deploy(1)
    version = {"model": "storm", "version": "1"}
    since = Since(
        http=("calls_total", {**version, "channel": "http"}),
        grpc=("calls_total", {**version, "channel": "grpc"}),
        rows=("predictions_total", {**version, "channel": "http"}),
        runs=("batch_rows_count", version),
        batched=("batch_rows_sum", version),
        waits=("queue_seconds_count", version),
        waited=("queue_seconds_sum", version),
        computed=("compute_seconds_count", version),
    )
    service.answers.answer_all([question(), question(), question(channel="grpc")])
    found = since()
    assert found.pop("waited") < 1
    assert found == {"http": 2, "grpc": 1, "rows": 4, "runs": 1, "batched": 6, "waits": 1, "computed": 1}


async def test_errors_are_counted_by_their_kind(service):
    await service.deploy(1)
    version = {"model": "storm", "version": "1", "channel": "http"}
    nowhere = {"model": "", "version": "", "channel": "http"}
    since = Since(
        refused=("call_errors_total", {**version, "error": "BadRequest"}),
        failed=("call_errors_total", {**version, "error": "NoAnswer"}),
        unknown=("call_errors_total", {**nowhere, "error": "Unknown"}),
        answered=("calls_total", version),
    )
    too_wide, no_number = np.ones((1, 4)), np.array([[0.0, 0.0, 1000.0]])
    service.answers.answer_all(
        [question(), question(rows=too_wide), question(rows=no_number), question(version="7"), question(version="8")]
    )
    assert since() == {"refused": 1, "failed": 1, "unknown": 2, "answered": 1}


async def test_a_body_that_cannot_be_read_is_an_error_of_no_model(service, door):
    await service.deploy(1)
    since = Since(unread=("call_errors_total", {"model": "", "version": "", "channel": "http", "error": "BadRequest"}))
    async with httpx.AsyncClient(base_url=f"http://{door}") as client:
        assert (await client.post("/v2/models/storm/infer", content=b"no JSON")).status_code == 400
    assert since() == {"unread": 1}


async def test_a_call_with_a_trace_is_an_example_of_its_latency(service, door):
    await service.deploy(1)
    body = {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [1, 2, 3]}]}
    async with httpx.AsyncClient(base_url=f"http://{door}") as client:
        await client.post("/v2/models/storm/infer", json=body, headers={"traceparent": PARENT.decode()})
        answer = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        plain = await client.get("/metrics")
    examples = [line for line in answer.text.splitlines() if PARENT[3:35].decode() in line]
    assert len(examples) == 1
    assert examples[0].startswith("mainstem_predict_seconds_bucket{")
    assert (" # {" in answer.text, " # {" in plain.text) == (True, False)
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(("share", "begun"), [(1.0, 50), (0.0, 0)])
async def test_of_calls_without_a_trace_a_share_begins_one(service, tmp_path, share, begun):
    await service.deploy(1)
    service.answers._tracer = tracer = Tracer("serving", tmp_path / "traces", share=share)
    answers = [service.answers.answer(question(f"q{number}")) for number in range(50)]
    assert len({answer.traceparent for answer in answers if answer.traceparent}) == begun
    tracer.close()
    written = (tmp_path / "traces" / "serving.ndjson").read_text().splitlines()
    assert len(written) == begun
    headers = [dict(message.headers).get("traceparent") for message in service.spooled()]
    assert headers == [answer.traceparent for answer in answers for _ in ROWS]


async def test_the_label_of_an_error_is_never_what_a_caller_wrote(service):
    await service.deploy(1)
    (found,) = service.answers.answer_all([question(rows=np.ones((1, 9)))])
    assert isinstance(found, BadRequest)
    service.answers.answer_all([Question("made up", None, "q", "http", ROWS), question(version="made up")])
    assert b"made up" not in metrics.exposition().content


def test_the_age_of_features_is_told_by_model_and_source_and_only_of_what_is_looked_up():
    tell_ages([("storm", "reading", 3.5), ("storm", "radar", None)])
    assert told("feature_age_seconds", model="storm", source="reading") == 3.5
    assert told("feature_age_seconds", model="storm", source="radar") == inf
    tell_ages([("storm", "radar", 0.0)])
    found = [family for family in metrics.REGISTRY.collect() if family.name == "mainstem_feature_age_seconds"]
    assert [(one.labels, one.value) for one in found[0].samples] == [({"model": "storm", "source": "radar"}, 0.0)]


def test_a_model_whose_features_are_not_looked_up_is_told_and_no_other():
    tell_away([("storm", True), ("calm", False)])
    assert (told("lookups_away", model="storm"), told("lookups_away", model="calm")) == (1, 0)
    tell_away([("calm", False)])
    found = [family for family in metrics.REGISTRY.collect() if family.name == "mainstem_lookups_away"]
    assert [(one.labels, one.value) for one in found[0].samples] == [({"model": "calm"}, 0)]


async def test_the_ages_are_those_of_the_set_that_a_model_reads(service, tmp_path):
    await service.deploy()
    lookups, live = Lookups("nowhere:1", tmp_path), service.board.last()
    assert list(lookups.ages(live)) == list(lookups.away(live)) == []
    lookups._ready = {live[0].feature_definition: SimpleNamespace(ages=lambda: {"reading": 3.5, "radar": None})}
    assert list(lookups.ages(live)) == [("storm", "reading", 3.5), ("storm", "radar", None)]
