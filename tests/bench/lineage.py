"""The lineage graph by itself, on one core: a process of its own, which prints its figures as JSON.

A log of records, each accepted, computed into a row and predicted on, gives a million edges. Times are CPU time.
"""

import json
import os
from collections.abc import Callable, Iterator
from statistics import median

from tests.bench.clock import OWN, RUNS, Stopwatch, spend
from tests.bench.goals import Goal, Outcome

from mainstem.events.data import RecordAccepted
from mainstem.events.features import RowComputed
from mainstem.events.frames import Entry
from mainstem.events.ids import child_id, content_id
from mainstem.events.instants import render
from mainstem.events.serving import Predicted
from mainstem.lineage import Builder, Graph, Kind, Node, Sought, node, questions

#: Records of the log; each leads to eight edges.
RECORDS, EDGES = 125_000, 1_000_000
_BATCH = 1_000
_START_US = 1_500_000_000_000_000
_DEFINITION, _FILE = content_id(b"definition"), content_id(b"file")
_VALUES = json.dumps([0.123456789] * 15)
#: Entries a CPU second, by what they are.
_RATES = {"records": 150_000, "accepted records": 80_000, "rows": 80_000, "predictions": 80_000}
_QUESTION_MS = 100.0

Write = Callable[[int], Entry]


def main() -> None:
    """Measure and print."""
    os.sched_setaffinity(0, OWN)
    builder, leaf, outcomes = Builder(), 0, list[Outcome]()
    for (name, goal), write in zip(_RATES.items(), (_record, _accepted, _row, _prediction), strict=True):
        cpu_us = [_take(builder, leaf + first, batch) for first, batch in _batches(write)]
        leaf += RECORDS
        rate = 1e6 / median(cpu_us)
        outcomes.append(Outcome(f"{name} read", "", rate, "in a CPU second", Goal(goal, at_least=True)))
    watch = Stopwatch()
    graph = builder.graph()
    outcomes.append(Outcome(f"{graph.edges:,} edges put in order", "", watch.each(1).cpu_us / 1e6, "s", Goal(5)))
    size = sum(column.nbytes for column in graph.to_arrays().values())
    outcomes.append(Outcome(f"graph of {graph.nodes:,} nodes", "", size / 1e6, "MB", Goal(80)))
    assert graph.edges == EDGES
    print(json.dumps([outcome.document() for outcome in [*outcomes, *_questions(graph)]]))


def _take(builder: Builder, leaf: int, batch: list[Entry]) -> float:
    return spend(lambda: builder.take(leaf, batch), len(batch)).cpu_us


def _questions(graph: Graph) -> Iterator[Outcome]:
    """Time questions that half of the log, or all of it, is the answer to."""
    half = graph.rows(b"".join(node(Kind.RECORD, f"src.s/0/{number}") for number in range(0, RECORDS, 2)))
    behind = [Node(Kind.PREDICTION, _id("prediction", number)) for number in range(0, RECORDS, 1_000)]
    sought = Sought(prefix="src.other")
    works: dict[str, Callable[[], object]] = {
        "impact of half of the records": lambda: questions.forward(graph, half),
        "impact as of half of the log": lambda: questions.forward(graph.as_of(2 * RECORDS), half),
        "what a definition defined": lambda: questions.forward(graph, [Node(Kind.DEFINITION, _DEFINITION)]),
        "absence behind one prediction": lambda: questions.absence(graph, behind[:1], sought),
        f"absence behind {len(behind)} predictions": lambda: questions.absence(graph, behind, sought),
        "difference of two sizes": lambda: questions.difference(graph, RECORDS, graph.size),
    }
    for name, work in works.items():
        taken = median(spend(work, 1).cpu_us for _ in range(RUNS))
        yield Outcome(f"{name}", f"{graph.edges:,} edges", taken / 1e3, "ms", Goal(_QUESTION_MS))


def _batches(write: Write) -> Iterator[tuple[int, list[Entry]]]:
    for first in range(0, RECORDS, _BATCH):
        yield first, [write(number) for number in range(first, first + _BATCH)]


def _id(kind: str, number: int) -> str:
    return child_id(str(number), kind)


def _at(number: int) -> bytes:
    return render(_START_US + number * 1_000).encode()


def _record(number: int) -> Entry:
    at = _at(number)
    headers = (("ce_specversion", b"1.0"), ("ce_id", _id("record", number).encode()), ("ce_time", at))
    return Entry("src.s", 0, number, 0, b"k", b'{"k":"k"}', (*headers, ("ce_recordedtime", at)))


def _accepted(number: int) -> Entry:
    value = f'{{"source":"s","contract":"{_DEFINITION}","record":{{"k":"k","a":1.5}}}}'
    names = _id("accepted", number), _id("record", number)
    return _event("evt.data.s", number, RecordAccepted.TYPE, names, value, f"src.s/0/{number}")


def _row(number: int) -> Entry:
    names = _id("row", number), _id("accepted", number)
    head = f'{{"feature_set":"f","definition":"{_DEFINITION}","entity":"k","spine_id":"{names[1]}"'
    return _event(
        "evt.feature.f", number, RowComputed.TYPE, names, f'{head},"values":{_VALUES}}}', f"f/src.s/0/{number}"
    )


def _prediction(number: int) -> Entry:
    names = _id("prediction", number), _id("row", number)
    position = f"evt.feature.f/0/{number}"
    head = f'{{"model":"m","version":1,"onnx":"{_FILE}","feature_definition":"{_DEFINITION}","channel":"stream"'
    middle = f'"entity":"k","row":"{names[1]}","position":"{position}"'
    value = f'{head},{middle},"features":{_VALUES},"score":0.5}}'
    return _event("tel.prediction.m", number, Predicted.TYPE, names, value, position)


def _event(topic: str, number: int, type_: str, names: tuple[str, str], value: str, origin: str) -> Entry:
    """Return an event with all the headers that it has in a log; `names` are its id and that of its cause."""
    at, (id_, cause) = _at(number), names
    headers = {
        "ce_specversion": b"1.0",
        "content-type": b"application/json",
        "ce_type": type_.encode(),
        "ce_source": b"/mainstem/bench",
        "ce_dataschema": b"bench/bench.v1.json",
        "ce_tenant": b"default",
        "ce_actor": b"/mainstem/bench",
        "ce_id": id_.encode(),
        "ce_subject": b"k",
        "ce_time": at,
        "ce_recordedtime": at,
        "ce_correlationid": cause.encode(),
        "ce_causationid": cause.encode(),
        "ce_origin": origin.encode(),
    }
    return Entry(topic, 0, number, 0, b"k", value.encode(), tuple(headers.items()))


if __name__ == "__main__":
    main()
