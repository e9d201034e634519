"""The model at work: ONNX in, probabilities out; feature rows in, messages with predictions out."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import onnxruntime
import orjson
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

from mainstem.events.catalogue import Record
from mainstem.events.envelope import Event, Message
from mainstem.events.errors import Rejected
from mainstem.events.instants import NEVER
from mainstem.inference.errors import NotReady, Unknown
from mainstem.serving.arms import Route
from mainstem.serving.domain import (
    ELSEWHERE,
    NONE,
    Activation,
    Charge,
    Followed,
    Indexed,
    LogTime,
    Reached,
    Tallies,
    charges,
    complete_through,
    no_probability,
    route,
    unfinished,
)
from mainstem.serving.entities import Floats
from mainstem.serving.ports import Parked, Partition
from mainstem.serving.rows import Form, Row, follow_up, inputs, pass_on, places, read_markers, read_rows, until
from mainstem.telemetry import Tracer

#: Name of the one input, float64 [rows, features], NaN = missing.
INPUT = "features"
#: Name of the one output, float64 [rows, 2]: probability of the negative and of the positive class.
OUTPUT = "probabilities"
_OUTPUTS = [OUTPUT]
#: Past this many rows a tree ensemble changes its strategy and a run costs more per row.
CHUNK = 64

#: What the runtime raises for a model that it cannot load, or run on some rows.
RUN_FAULTS = (
    onnx_errors.Fail,
    onnx_errors.InvalidArgument,
    onnx_errors.InvalidGraph,
    onnx_errors.InvalidProtobuf,
    onnx_errors.NoModel,
    onnx_errors.NotImplemented,
    onnx_errors.RuntimeException,
    RuntimeError,
)
#: Of parts that were run: none failed.
NO_FAULTS: Mapping[int, str] = {}


class BadSignature(Rejected):
    """The bytes are no ONNX model, or one with other inputs or outputs than the deployment says."""


class NotLoaded(NotReady):
    """A version that is in effect is not loaded; `activation` is the one."""

    def __init__(self, activation: Activation, fault: str | None) -> None:
        why = f": {fault}; put the file back" if fault else " yet; try again"
        super().__init__(f"model {activation.model} version {activation.version} is not loaded{why}")
        self.activation = activation


class Model:
    """A loaded model. One thread: a hand-over to another costs more than the model itself."""

    def __init__(self, onnx: bytes, width: int) -> None:
        """Load the model and try it on one row; raise BadSignature when it does not take `width` inputs."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Whatever fails is raised; a line of the runtime's own for each would let callers fill the log.
        options.log_severity_level = 4
        self.width = width
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
            self._check_names()
            # What the wrapper around it adds to each call is a third of a small model's time.
            self._raw_run = getattr(self._session, "_sess", self._session).run
            probe = self.probabilities(np.zeros((1, width)))
        except RUN_FAULTS as fault:
            raise BadSignature(f"the model does not load and take {width} inputs: {fault}") from fault
        if probe.dtype != np.float64 or probe.shape != (1, 2) or not np.isfinite(probe).all():
            raise BadSignature(f"a row of zeros gives {probe.dtype} {probe.tolist()}, not two finite float64")

    def probabilities(self, rows: Floats) -> Floats:
        """Return float64 [rows, 2] for float64 [rows, width]; a row's result does not depend on the others."""
        if 0 < len(rows) <= CHUNK:
            return self._run(rows)
        return np.concatenate(
            [np.empty((0, 2))] + [self._run(rows[at : at + CHUNK]) for at in range(0, len(rows), CHUNK)]
        )

    def probabilities_apart(self, parts: Iterable[Floats]) -> tuple[Floats, dict[int, str]]:
        """Run each part of rows that failed together by itself.

        Return the probabilities below each other, NaN where a part fails again, and why it does, by its place.
        """
        found, why = [np.empty((0, 2))], {}
        for place, rows in enumerate(parts):
            try:
                found.append(self.probabilities(rows))
            except RUN_FAULTS as fault:
                found.append(np.full((len(rows), 2), np.nan))
                why[place] = str(fault)
        return np.concatenate(found), why

    def _run(self, rows: Floats) -> Floats:
        found: Floats = self._raw_run(_OUTPUTS, {INPUT: rows}, None)[0]
        if len(found) != len(rows):
            raise RuntimeError(f"the model gives {len(found)} rows for {len(rows)}")
        return found

    def _check_names(self) -> None:
        taken = [(i.name, i.type, i.shape[-1]) for i in self._session.get_inputs()]
        if taken != [(INPUT, "tensor(double)", self.width)]:
            raise BadSignature(f"the model takes {taken}, not one float64 {INPUT!r} of width {self.width}")
        given = [output.name for output in self._session.get_outputs()]
        if OUTPUT not in given:
            raise BadSignature(f"the model gives {given}, not {OUTPUT!r}")


class Board:
    """What answers at this moment: the activations as they are stored, and the models that are loaded."""

    def __init__(self, routed: Callable[["Board"], None] = lambda _: None) -> None:
        """Begin with nothing; `routed` is called whenever other activations are in effect."""
        self._routed = routed
        #: The feature sets whose values are looked up, by their identity.
        self.lookups: Mapping[str, Followed] = {}
        #: Models that read a feature topic, by the topic.
        self.readers: Mapping[str, Sequence[str]] = {}
        self._activations: Mapping[str, Sequence[Activation]] = {}
        #: What answers direct calls, by model; a switch is another table in its place.
        self._routes: Mapping[str, Route] = {}
        self._models: dict[str, Model] = {}
        self._forms: dict[tuple[str, int], Form] = {}
        #: Models whose records may be dropped when there is no room for them; of every other no answer is given then.
        self.droppable: Collection[str] = frozenset()
        #: Why a model could not be loaded, by its digest.
        self.faults: dict[str, str] = {}

    def swap(self, activations: Iterable[Activation]) -> None:
        """Route by these activations from now on; for each model they come in their order."""
        grouped = groupby(sorted(activations, key=lambda a: a.model), key=lambda a: a.model)
        self._activations = {model: tuple(run) for model, run in grouped}
        self._routes = {model: Route(run[-1]) for model, run in self._activations.items()}
        self._forms = {}
        self._routed(self)

    def follow(self, lookups: Mapping[str, Followed]) -> None:
        """Look up the values of these feature sets from now on."""
        if lookups != self.lookups:
            self.lookups = lookups
            self._routed(self)

    def let_drop(self, models: Collection[str]) -> None:
        """Let the records of these models, and of no other, be dropped when there is no room for them."""
        if frozenset(models) != self.droppable:
            self.droppable = frozenset(models)
            self._routed(self)

    def load(self, onnx: str, model: Model) -> None:
        """Make a loaded model known by its digest."""
        self._models[onnx] = model
        self.faults.pop(onnx, None)

    def has(self, onnx: str) -> bool:
        """Tell whether a model is loaded."""
        return onnx in self._models

    def keep(self, wanted: Collection[str]) -> None:
        """Forget every other model."""
        self._models = {onnx: model for onnx, model in self._models.items() if onnx in wanted}
        self.faults = {onnx: fault for onnx, fault in self.faults.items() if onnx in wanted}

    def of(self, model: str) -> Sequence[Activation]:
        """Return the activations of a model in their order."""
        return self._activations.get(model, ())

    def charges(self, model: str) -> list[Charge]:
        """Return which topics were and are in charge of a model, in order."""
        return charges(self.of(model), {topic for topic, models in self.readers.items() if model in models})

    def model(self, activation: Activation) -> Model:
        """Return the loaded model of an activation; raise NotLoaded."""
        try:
            return self._models[activation.onnx]
        except KeyError:
            raise NotLoaded(activation, self.faults.get(activation.onnx)) from None

    def form(self, activation: Activation) -> Form:
        """Return how its predictions are written."""
        key = activation.deployment, activation.version
        known = self._forms.get(key)
        if known is None:
            known = self._forms[key] = Form(activation)
        return known

    def all(self) -> list[Activation]:
        """Return all activations, for each model in their order."""
        return [activation for _, run in sorted(self._activations.items()) for activation in run]

    def last(self) -> list[Activation]:
        """Return for each model the activation that answers direct calls."""
        return [run[-1] for _, run in sorted(self._activations.items())]

    def route(self, model: str) -> Route:
        """Return what answers the direct calls of a model. Raises Unknown."""
        try:
            return self._routes[model]
        except KeyError:
            known = sorted(self._routes)
            raise Unknown(f"no version of model {model!r} is deployed here; known: {known}") from None

    def live(self, model: str) -> Activation:
        """Return the activation that answers direct calls: the last one. Raises Unknown."""
        return self.route(model).first

    def answering(self, model: str) -> set[int]:
        """Return the versions that answer direct calls of a model unasked for; none of an unknown one."""
        route = self._routes.get(model)
        return set() if route is None else {each.version for each in route.versions if each not in route.shadows}

    def before(self) -> list[Activation]:
        """Return for each model the versions that answered before; there may be none."""
        return [each for _, run in sorted(self._activations.items()) for last in run[-2:-1] for each in last.versions()]

    def about(self, model: str, version: str | None) -> Activation:
        """Return what answers direct calls for a model. Raises Unknown or NotReady."""
        found = self.route(model).named(version)
        self.model(found)
        return found

    def chosen(self, model: str | None, version: str | None) -> list[Activation]:
        """Return what answers for one model, or for each. Raises Unknown or NotReady."""
        if model is None or version is None:
            return self._answering() if model is None else list(self.route(model).versions)
        return [self.about(model, version)]

    def index(self) -> list[Indexed]:
        """Return every version that answers direct calls, or is to."""
        return [self._indexed(each) for each in self._answering()]

    def _answering(self) -> list[Activation]:
        """Return every version that may be asked for; what answered before is warm and may not."""
        return [each for _, route in sorted(self._routes.items()) for each in route.versions]

    def _indexed(self, live: Activation) -> Indexed:
        name, fault = (live.model, str(live.version)), self.faults.get(live.onnx)
        if live.onnx in self._models:
            return Indexed(*name, "READY")
        return Indexed(*name, "UNAVAILABLE", fault) if fault else Indexed(*name, "LOADING")

    def missing(self) -> list[Activation]:
        """Return the versions that answer direct calls but are not loaded."""
        return [each for each in self._answering() if each.onnx not in self._models]

    def fault(self) -> str | None:
        """Tell what keeps a version in effect from answering, or None."""
        faults = [
            f"model {a.model} version {a.version}: {self.faults.get(a.onnx, 'not loaded yet')}" for a in self.missing()
        ]
        return "; ".join(faults) or None


@dataclass(slots=True)
class Scored:
    """What a batch led to."""

    messages: list[Message] = field(default_factory=list)
    tallies: Tallies = field(default_factory=Tallies)
    parked: list[Parked] = field(default_factory=list)
    reached: dict[Partition, Reached] = field(default_factory=dict)
    #: Rows whose record no version answers, by model.
    unscored: Counter[str] = field(default_factory=Counter)

    def add(self, later: "Scored") -> None:
        """Add what the next records led to."""
        self.messages += later.messages
        self.tallies.add(later.tallies)
        self.parked += later.parked
        self.reached |= later.reached
        self.unscored += later.unscored


class Scorer:
    """Turns records of feature topics into messages for prediction topics: the same records give the same messages."""

    def __init__(self, board: Board, tracer: Tracer) -> None:
        self._board = board
        self._tracer = tracer

    def score(self, records: Sequence[Record], headers: Sequence[Mapping[str, bytes]], log: LogTime) -> Scored:
        """Score the rows and pass the markers on, each partition in its order. Raises NotLoaded."""
        out = Scored()
        order = sorted(range(len(records)), key=lambda i: (records[i].topic, records[i].partition, records[i].offset))
        for place, run in groupby(order, key=lambda i: (records[i].topic, records[i].partition)):
            indices = list(run)
            seen = {**log.partitions, **out.reached}
            out.reached[place] = self._score_partition(
                [records[i] for i in indices], [headers[i] for i in indices], seen, out
            )
        return out

    def _score_partition(
        self,
        records: Sequence[Record],
        headers: Sequence[Mapping[str, bytes]],
        seen: Mapping[Partition, Reached],
        out: Scored,
    ) -> Reached:
        rows = read_rows(records, headers, out.parked)
        markers = read_markers(records, headers, out.parked)
        topic, partition = records[0].topic, records[0].partition
        for model in self._board.readers.get(topic, ()):
            found = {index: [message] for index, message in self._predict(model, rows, out).items()}
            if markers:
                passed = {name: reached.passed_us for (name, number), reached in seen.items() if number == partition}
                found |= self._pass_on(model, [(i, records[i], event) for i, event in markers.items()], passed)
            out.messages += [message for index in sorted(found) for message in found[index]]
        reached = seen.get((topic, partition), Reached())
        if rows:
            newest = max(rows, key=lambda row: (row.recorded_us, row.index))
            reached = reached.with_row(newest.recorded_us, newest.record.offset)
        for event in markers.values():
            reached = reached.with_marker(event.envelope.time_us)
        return reached

    def _pass_on(
        self, model: str, markers: Iterable[tuple[int, Record, Event]], passed: dict[str, int]
    ) -> dict[int, list[Message]]:
        """Return what the markers of a partition say of the model's answers, by their index; `passed` is by topic.

        A marker says what its own topic has in charge. What others said before, and could not be told while this topic
        was behind, follows it.
        """
        order, found = self._board.charges(model), dict[int, list[Message]]()
        for index, record, event in markers:
            charge, before = unfinished(order, passed), complete_through(order, passed)
            passed[record.topic] = max(passed.get(record.topic, NEVER), event.envelope.time_us)
            own_us, after = min(event.envelope.time_us, charge.until_us), complete_through(order, passed)
            found[index] = []
            if charge.topic == record.topic and own_us > before:
                said = event if own_us == event.envelope.time_us else until(event, own_us)
                found[index].append(pass_on(record, said, model))
                before = own_us
            if after > before:
                found[index].append(follow_up(record, event, model, after))
        return found

    def _predict(self, model: str, rows: Sequence[Row], out: Scored) -> dict[int, Message]:
        """Return the messages with the predictions of a model, by the index of the row."""
        if not rows:
            return {}
        activations = self._board.of(model)
        chosen = route(activations, places(rows))
        found: dict[int, Message] = {}
        for number in np.unique(chosen).tolist():
            picked = [rows[i] for i in np.flatnonzero(chosen == number).tolist()]
            if number == NONE:
                out.unscored[model] += len(picked)
            elif number != ELSEWHERE:
                found |= self._predict_with(activations[number], picked, out)
        return found

    def _predict_with(self, activation: Activation, rows: Sequence[Row], out: Scored) -> dict[int, Message]:
        model = self._board.model(activation)
        rows, matrix = inputs(rows, model.width, out.parked)
        if not rows:
            return {}
        try:
            probabilities, why = model.probabilities(matrix), NO_FAULTS
        except RUN_FAULTS:
            probabilities, why = model.probabilities_apart(matrix[:, None])
        scores = probabilities[:, 1]
        form = self._board.form(activation)
        texts = orjson.dumps(scores.tolist())[1:-1].split(b",")
        found, ids = {}, []
        for at, (row, score, finite) in enumerate(zip(rows, texts, np.isfinite(scores).tolist(), strict=True)):
            if not finite:
                out.parked.append(Parked(row.record, no_probability(activation, why.get(at))))
                continue
            event_id, found[row.index] = form.from_row(row, score, self._tracer)
            ids.append(event_id)
        out.tallies[activation.model, activation.version, "stream", rows[0].record.partition].count(ids)
        return found
