"""A small model, its feature rows, and the registry's facts about it."""

import asyncio
import sys
from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import uvicorn
from onnx import TensorProto, helper, numpy_helper

from mainstem.bus.spool import Spool
from mainstem.bus.spool_tail import Tail
from mainstem.direct import Door, Upstream
from mainstem.events.catalogue import encode
from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Envelope, Event
from mainstem.events.features import RowComputed
from mainstem.events.fence import Fence, read_origin
from mainstem.events.ids import child_id, content_id
from mainstem.events.instants import NEVER, parse, render
from mainstem.events.record import header
from mainstem.events.registry import DeploymentSet, VersionApproved, VersionPromoted
from mainstem.inference.errors import BadRequest, NotReady, Unsupported
from mainstem.intake import admit
from mainstem.runtime.health import Health
from mainstem.runtime.http import application
from mainstem.serving import grpc_fast, wire
from mainstem.serving.answers import Answers
from mainstem.serving.api import Api, error
from mainstem.serving.batching import Batcher
from mainstem.serving.blocks import unpack
from mainstem.serving.board import Board
from mainstem.serving.desk import Deployments
from mainstem.serving.domain import LogTime, Reached
from mainstem.serving.entities import AsOf
from mainstem.serving.entities import Entities as Described
from mainstem.serving.grpc_api import GrpcApi
from mainstem.serving.handlers import Stream
from mainstem.serving.hot_api import HotApi
from mainstem.serving.loader import Loader
from mainstem.serving.managed import Answering, Managed
from mainstem.serving.memory import MemoryStore
from mainstem.serving.rpc import Rpc
from mainstem.storage import Artifacts
from mainstem.telemetry import Tracer
from mainstem.testkit.records import Log, Taken
from mainstem.testkit.waiting import until

HOST = "127.0.0.1"
#: 2013-05-01T00:00:00Z
MAY = 1_367_366_400_000_000
FEATURES = ["wind", "rain", "hour"]
DEFINITION = "sha256:" + "d" * 64
SECOND = "sha256:" + "2" * 64
#: Address of the profile `{}`, which quotes no rows; every service of a test has it.
PROFILE = content_id(b"{}")
TOPIC = "evt.feature.gusts"
PREDICTIONS = "tel.prediction.storm"


#: What is multiplied by what, and where it goes, to no effect.
_IDLE = (["filled", "a", "wide"], ["wide", "b", "wider"], ["wider", "c", "nothing"])
#: Looks values up where there may be none, to no effect.
_LOOKED_UP = (
    helper.make_node("Cast", ["filled"], ["places"], to=TensorProto.INT64),
    helper.make_node("Gather", ["table", "places"], ["found"]),
    helper.make_node("MatMul", ["found", "weights"], ["in vain"]),
)


def onnx_model(
    width=3, *, bias=0.0, output="probabilities", kind=TensorProto.DOUBLE, given=2, most=1e308, idle=0, known=0
):
    """Return a logistic regression; a missing input counts as 0, one beyond `most` as that.

    Odds past float64 give no number. With `idle` it multiplies zeros of that width first, which takes time. With
    `known` it fails on an input of that or more.
    """
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = np.linspace(-1, 1, width)[:, None] * np.linspace(-1, 1, given)
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["all filled"]),
        helper.make_node("Clip", ["all filled", "least", "most"], ["filled"]),
        helper.make_node("MatMul", ["filled", "weights"], ["linear"]),
        *([helper.make_node("MatMul", names[:2], names[2:]) for names in _IDLE] if idle else []),
        *(_LOOKED_UP if known else []),
        helper.make_node(
            "Sum", ["linear", "bias", *(["nothing"] if idle else []), *(["in vain"] if known else [])], ["raw"]
        ),
        helper.make_node("Exp", ["raw"], ["odds"]),
        helper.make_node("Add", ["odds", "one"], ["all"]),
        helper.make_node("Div", ["odds", "all"], [output]),
    ]
    constants = [
        numpy_helper.from_array(np.zeros((), dtype), "zero"),
        numpy_helper.from_array(np.ones((), dtype), "one"),
        numpy_helper.from_array(np.array(max(-most, float(np.finfo(dtype).min)), dtype), "least"),
        numpy_helper.from_array(np.array(min(most, float(np.finfo(dtype).max)), dtype), "most"),
        numpy_helper.from_array(weights.astype(dtype), "weights"),
        numpy_helper.from_array((bias * np.linspace(-1, 1, given)).astype(dtype), "bias"),
    ]
    for name, shape in zip("abc", [(width, idle), (idle, idle), (idle, given)], strict=True):
        constants += [numpy_helper.from_array(np.zeros(shape, dtype), name)] if idle else []
    constants += [numpy_helper.from_array(np.zeros(known, dtype), "table")] if known else []
    taken = helper.make_tensor_value_info("features", kind, [None, width])
    out = helper.make_tensor_value_info(output, kind, [None, given])
    graph = helper.make_graph(nodes, "logistic", [taken], [out], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def expected(values, bias=0.0):
    """Return the score that `onnx_model` gives, computed without it."""
    rows = np.nan_to_num(np.array(values, np.float64))
    return 1 / (1 + np.exp(-(rows @ np.linspace(-1, 1, rows.shape[-1]) + bias)))


def envelope(fact, event_id, recorded_us, origin):
    return Envelope(
        id=event_id,
        type=fact.TYPE,
        source="/test",
        subject="s",
        time_us=recorded_us,
        recorded_us=recorded_us,
        correlation=f"story of {event_id}",
        causation="cause",
        actor="test",
        origin=origin,
    )


def taken(fact, event_id, place, *, at=MAY, origin=None, key=b"k"):
    """Return a record that carries a fact at (topic, partition, offset)."""
    message = encode(Event(envelope(fact, event_id, at, origin), fact))
    return Taken(*place, message.value, key, message.headers)


def row(offset, values=(1.0, None, 3.0), *, partition=0, at=None, definition=DEFINITION, entity="LGA"):
    """Return a feature row, recorded `offset` seconds into May unless said otherwise; of gusts.v2 if it is SECOND."""
    label = "gusts.v2" if definition == SECOND else "gusts"
    fact = RowComputed(
        feature_set=label, definition=definition, entity=entity, spine_id=f"spine {offset}", values=list(values)
    )
    recorded = MAY + offset * 1_000_000 if at is None else at
    origin = f"evt.data.reading/{partition}/{offset}"
    place = (RowComputed.topic_of(label), partition, offset)
    return taken(fact, child_id(origin, f"row of {label}"), place, at=recorded, origin=origin, key=entity.encode())


def marker(offset, until_us, *, partition=0, topic=TOPIC):
    """Return a progress marker."""
    origin = f"features@{topic}#progress/{offset}"
    fact = ProgressReached(until=render(until_us))
    return taken(fact, child_id(origin, f"{partition}"), (topic, partition, offset), at=until_us, origin=origin)


def approval(version=1, digest="", model="storm"):
    fact = VersionApproved(model=model, version=version, onnx=digest, approved_by="ann")
    return Event(envelope(fact, f"approval {version}", MAY, None), fact)


def promotion(version=1, model="storm"):
    fact = VersionPromoted(model=model, version=version, replaces=None, promoted_by="olga")
    return Event(envelope(fact, f"promotion {version}", MAY, None), fact)


def deployment(
    version=1,
    digest="",
    *,
    at=MAY,
    features=FEATURES,
    model="storm",
    effective_from=None,
    reads=DEFINITION,
    place=None,
    led_by=None,
    profile=PROFILE,
    **arms,
):
    """Return a DeploymentSet; its place in the registry's order is its version unless said."""
    fact = DeploymentSet(
        model=model,
        version=version,
        project="weather",
        onnx=digest,
        profile=profile,
        feature_set="gusts.v2" if reads == SECOND else "gusts",
        feature_definition=reads,
        features=features,
        approved_by="ann",
        effective_from=effective_from or render(at),
        **arms,
    )
    place = place or version
    given = envelope(fact, f"deployment {place}", at, f"registry@x/{place}")
    return Event(replace(given, causation=f"promotion {led_by or place}"), fact)


@dataclass
class Service:
    """The service without its process: real artifacts and a real spool, memory for the rest."""

    store: MemoryStore
    artifacts: Artifacts
    board: Board
    loader: Loader
    stream: Stream
    deployments: Deployments
    answers: Answers
    spool: Spool
    log: Log
    past: "Earlier"
    entities: "Entities"
    elsewhere: "Elsewhere"

    async def take(self, *records):
        await self.stream.on_records(records, publisher=self.log)

    async def deploy(self, version=1, *, at=MAY, reads=DEFINITION, profile=PROFILE, **shape):
        """Put a version into the artifact store, approve it, deploy it, and let the service decide."""
        digest = self.artifacts.put(onnx_model(**shape))
        await self.store.apply(approval(version, digest))
        await self.store.apply(promotion(version))
        await self.store.apply(deployment(version, digest, at=at, reads=reads, profile=profile))
        await self.deployments.decide()
        return self.store.verdicts[f"deployment {version}"].fact

    def spooled(self, number=0):
        """Return the messages that the spool stands for from a number on, as the sender will see them."""
        tail = Tail(self.spool._folder)
        blocks = []
        while some := tail.read(number):
            blocks += some
            number = some[-1].first + some[-1].count
        return [message for block in blocks for message in unpack(self.spool.incarnation, block)]

    def http_api(self, **said):
        """Return what serves the hot paths of HTTP."""
        batcher = Batcher(self.answers)
        return HotApi(Answering(self.board, self.used, batcher), batcher, **said)

    def rpc(self, **said):
        """Return the methods of gRPC."""
        batcher = Batcher(self.answers)
        return Rpc(Answering(self.board, self.used, batcher), batcher, **said)

    async def used(self):
        """Return what was done for every version, as the protocol says it."""
        return [wire.used(each) for each in self.answers.usage()]

    def restarted(self):
        """Return the service as a new process finds it: the stored state only."""
        again = make_service(self.store, self.artifacts, self.spool, self.log)
        again.past.rows, again.board.readers = self.past.rows, self.board.readers
        return again


class Earlier:
    """What earlier processes published, by what stands in the log and what a test says of the first topic."""

    def __init__(self, log):
        self.log = log
        self.said = {TOPIC: {0: -1, 1: -1}}
        #: Records of feature topics that any process read.
        self.rows = []

    async def published(self, prediction_topic, feature_topic):
        found = {0: -1, 1: -1, **self.said.get(feature_topic, {})}
        for record in self.log.of(prediction_topic):
            stream, number = read_origin(header(record, "ce_origin"))
            if stream == f"{feature_topic}/{record.partition}":
                found[record.partition] = max(found[record.partition], number)
        return found

    async def latest(self, feature_topic, spans):
        seen = [r for r in self.rows if r.topic == feature_topic and r.offset in spans.get(r.partition, ())]
        return max((parse(header(record, "ce_recordedtime").decode()) for record in seen), default=NEVER)


#: The gate, which looks at each of these models once.
admitted = cache(admit)


def make_service(store, artifacts, spool, log):
    board, past = Board(), Earlier(log)
    artifacts.put(b"{}")
    elsewhere, tracer = Elsewhere(), Tracer("serving", None)
    loader = Loader(artifacts, board, store.record_loss, elsewhere.warm, pause_s=0.02, gate=admitted)
    positions = {place: replace(position) for place, position in store.positions.items()}
    board.readers = {TOPIC: ["storm"]}
    reached = LogTime({place: Reached.load(state) for place, state in store.states.items()})
    stream = Stream(board, loader, Fence(positions), reached, tracer)
    deployments = Deployments(store, board, loader, stream, past, wait_s=0.05)
    lookups = Entities()
    answers = Answers(board, stream.log, spool, tracer, lookups)
    return Service(store, artifacts, board, loader, stream, deployments, answers, spool, log, past, lookups, elsewhere)


class Elsewhere:
    """The other processes that are to answer: each time they load, the first of `faults` is what goes wrong."""

    def __init__(self):
        self.faults = []

    async def warm(self, onnx, width):
        return self.faults.pop(0) if self.faults else None


class Entities:
    """Looks up stations, once that is switched on: the features are the wind as it was said, nothing, and its half."""

    def __init__(self):
        self.on = False
        self.limits = None
        #: How often anything was read.
        self.reads = 0

    def of(self, activation):
        if not self.on:
            raise Unsupported(f"model {activation.model!r} is not called by entity")
        return self

    def entities(self, columns):
        if unknown := columns.keys() - {"station", "wind"}:
            raise BadRequest(f"gusts reads no column {sorted(unknown)} of an entity")
        return Described(len(next(iter(columns.values()))), [columns["wind"]])

    def as_of(self):
        if self.limits:
            raise NotReady(self.limits)
        return AsOf("gusts", DEFINITION, render(MAY), MAY, 41, {"reading": 3.5, "radar": None}, ["radar"])

    def read(self, asked):
        self.reads += 1
        winds = [wind for entities in asked for wind in entities.columns[0]]
        return np.array([[np.nan if wind is None else wind, np.nan, (wind or 0) / 2] for wind in winds])


@pytest.fixture
async def door(service):
    """Open the HTTP door of the service, and what stands behind it; return `host:port`."""
    app = application(Health(), Api(Managed(service.board, service.used)).routes(), error)
    rest = uvicorn.Server(uvicorn.Config(app, host=HOST, port=0, log_config=None, lifespan="off"))
    running = asyncio.create_task(rest.serve())
    await until(lambda: rest.started)
    upstream = Upstream(HOST, rest.servers[0].sockets[0].getsockname()[1])
    async with Door(service.http_api().route, upstream).listening(HOST, 0) as port:
        yield f"{HOST}:{port}"
    rest.should_exit = True
    await running


@pytest.fixture
async def whole_door(service):
    """Return the address of the gRPC door that has streams."""
    server, port = await GrpcApi(service.rpc()).start(f"{HOST}:0")
    yield f"{HOST}:{port}"
    await server.stop(None)


@pytest.fixture
async def fast_door(service):
    """Return the address of the gRPC door that has none."""
    async with grpc_fast.door(service.rpc()).listening(HOST, 0) as port:
        yield f"{HOST}:{port}"


@pytest.fixture(params=["grpcio", "fast"])
def grpc_door(request):
    """Return the address of a gRPC door, of either in turn."""
    return request.getfixturevalue("whole_door" if request.param == "grpcio" else "fast_door")


@pytest.fixture
def figures(capsys):
    """Return what shows a line, whatever becomes of the test."""

    def show(line):
        with capsys.disabled():
            sys.stdout.write(f"\n{line}\n")

    return show


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path / "spool", 1 << 20)
    yield opened
    opened.close()


@pytest.fixture
def service(tmp_path, spool):
    return make_service(MemoryStore(), Artifacts(tmp_path / "artifacts"), spool, Log())


@pytest.fixture
def make():
    """Return the makers of this file, by name."""
    makers = (onnx_model, expected, row, marker, approval, promotion, deployment, taken, make_service)
    return SimpleNamespace(
        **{maker.__name__: maker for maker in makers},
        may=MAY,
        topic=TOPIC,
        second=SECOND,
        predictions=PREDICTIONS,
        profile=PROFILE,
    )
