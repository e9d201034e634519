"""The books: everything is counted once more from the log alone, and held against what the client knows it sent."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime
from projects.flights.damage import Damage
from projects.flights.data import Events
from projects.flights.demo.calls import Answer
from projects.flights.demo.decisions import Activation
from projects.flights.demo.oracle import Oracle
from projects.flights.demo.reading import Log, Table, once
from sklearn.metrics import brier_score_loss, roc_auc_score

from mainstem.events.instants import parse
from mainstem.project import Reason

#: All dirt there is in the year itself: one gust of 1,048 mph.
DIRT: Final = {"observed-2013-02-12T08Z-EWR": Reason.OUT_OF_RANGE}
#: Fewer labelled predictions than this say nothing about a month.
FEWEST: Final = 500
#: Past this many rows a tree ensemble changes its strategy.
_CHUNK: Final = 64

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Names = npt.NDArray[np.bytes_]


@dataclass
class Promises:
    """What was promised, and what of it did not hold."""

    kept: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def hold(self, promise: str, found: object, expected: object = True) -> None:
        """Note whether a promise holds: what was found is what was expected."""
        if found == expected:
            self.kept.append(promise)
        else:
            self.broken.append(f"{promise}: {found} instead of {expected}")


@dataclass(frozen=True, slots=True)
class Month:
    """What the versions in service did in a month of event time, UTC."""

    month: str
    labelled: int
    positive_rate: float
    auc: float
    brier: float
    versions: list[int]


@dataclass(frozen=True, slots=True)
class Week:
    """The same for one version in a window of monitoring."""

    end_us: int
    version: int
    labelled: int
    positive_rate: float
    auc: float
    #: When its predictions were made, on average.
    middle_us: int


@dataclass(frozen=True)
class Sent:
    """What the client sent: ids by source (bytes, sorted), and how often each id must be refused, and why."""

    ids: Mapping[str, Names]
    book: Counter[tuple[str, str]]
    injected: int

    @classmethod
    def of(cls, events: Mapping[str, Events], damage: Damage, until_us: int) -> "Sent":
        """Take all events that became known before an instant, and the damage among them; they are not kept."""
        ids = {name: np.sort(np.array(_before(of, until_us), "S48")) for name, of in events.items()}
        broken = [record for of in damage.events.values() for record in _before(of, until_us)]
        book = Counter((record, damage.book[record].value) for record in broken)
        book.update(
            (record, why.value) for record, why in DIRT.items() if any(record.encode() in of for of in ids.values())
        )
        return cls(ids, book, len(broken))


def _before(events: Events, until_us: int) -> list[str]:
    return events.ids[: int(np.searchsorted(events.arrival_us, until_us))]


def scores(onnx: bytes, values: Floats) -> Floats:
    """Return the probability that a model gives to each row; with one thread, since more add in another order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    chunks = [values[at : at + _CHUNK] for at in range(0, len(values), _CHUNK)]
    return np.concatenate([session.run(["probabilities"], {"features": chunk})[0][:, 1] for chunk in chunks])


class Books:
    """The log, each event once, and what can be counted in it."""

    def __init__(self, log: Log, activations: Sequence[Activation], promises: Promises) -> None:
        """Take the log as it was read; what does not add up goes to `promises`."""
        self.promises = promises
        self._activations = activations
        self._refused = log.refused
        self._copies = 0
        self.accepted = {name: self._once(table) for name, table in log.accepted.items()}
        self.rows = self._once(log.rows)
        predictions = self._once(log.predictions)
        stream = predictions["channel"] == b"stream"
        self.stream: Table = {name: of[stream] for name, of in predictions.items()}
        self.direct: Table = {name: of[~stream] for name, of in predictions.items()}
        promises.hold("second copies of an event equal the first", self._copies, 0)

    def _once(self, table: Table) -> Table:
        unique, differing = once(table)
        self._copies += differing
        return unique

    def check_records(self, sent: Sent) -> dict[str, Any]:
        """Every record that was sent is accepted once or refused for the reason in the book; return the counts."""
        refused = Counter((fact.record_id or "", str(fact.reason)) for fact in self._refused)
        other = [*(refused - sent.book), *(sent.book - refused)]
        self.promises.hold("every damaged record was refused for its reason, and nothing else was", other[:3], [])
        turned_away = np.array(sorted(record for record, _ in sent.book.elements()), "S48")
        for name, ids in sent.ids.items():
            wanted = np.delete(ids, np.searchsorted(ids, turned_away[np.isin(turned_away, ids)]))
            accepted = np.array_equal(np.sort(self.accepted[name]["cause"]), wanted)
            self.promises.hold(f"every honest record of {name} was accepted once", accepted)
        return {
            "sent": {name: len(ids) for name, ids in sent.ids.items()},
            "injected": sent.injected,
            "accepted": sum(len(table["id"]) for table in self.accepted.values()),
            "quarantined": len(self._refused),
            "reasons": dict(sorted(Counter(str(fact.reason) for fact in self._refused).items())),
        }

    def check_rows(self) -> int:
        """Every accepted departure has one row; return how many there are."""
        spine, departures = np.sort(self.rows["spine_id"]), np.sort(self.accepted["flight_departed"]["id"])
        self.promises.hold("every accepted departure has exactly one feature row", np.array_equal(spine, departures))
        return len(spine)

    def check_predictions(self) -> None:
        """Every row since the first promotion was scored once, with its own values, by the version in effect."""
        effective = np.array([one.effective_us for one in self._activations], np.int64)
        versions = np.array([one.version for one in self._activations], np.int64)
        due = {name: of[self.rows["recorded_us"] >= effective[0]] for name, of in self.rows.items()}
        by_row, by_due = np.argsort(self.stream["row"]), np.argsort(due["id"])
        scored = np.array_equal(self.stream["row"][by_row], due["id"][by_due])
        self.promises.hold("every row since the first promotion was scored exactly once", scored)
        entities = np.array_equal(np.sort(self.stream["key"]), np.sort(due["key"]))
        self.promises.hold("every departure since the first promotion has exactly one prediction", entities)
        if scored:
            same = np.array_equal(self.stream["inputs"][by_row], due["inputs"][by_due])
            self.promises.hold("every prediction carries the published values of its row", same)
        in_effect = versions[np.searchsorted(effective, self.stream["recorded_us"], "right") - 1]
        wrong = int((in_effect != self.stream["version"]).sum())
        self.promises.hold("every prediction was made by the version in effect when its row was recorded", wrong == 0)

    def check_answers(self, answers: Sequence[Answer], total: int, oracle: Oracle) -> dict[str, Any]:
        """Every direct answer is in the log once, and has the bits of the stream's, or of what was known by then.

        Returns the counts of serving.
        """
        counts = Counter(answer.channel for answer in answers)
        self.promises.hold("all direct calls were answered", dict(counts), {"http": 2 * total, "grpc": 2 * total})
        logged = Counter(identity.decode() for identity in self.direct["id"].tolist())
        asked = Counter(answer.prediction for answer in answers)
        self.promises.hold("every direct answer is in the log exactly once", logged == asked)
        stream = dict(
            zip(
                zip(self.stream["row"].tolist(), self.stream["version"].tolist(), strict=True),
                self.stream["score"].tolist(),
                strict=True,
            )
        )
        brought = [answer for answer in answers if answer.row]
        other = [answer for answer in brought if stream.get((answer.row.encode(), answer.version)) != answer.score]
        self.promises.hold("every direct answer equals the stream's, bit for bit", [a.row for a in other[:3]], [])
        named, differing = self._check_looked_up(oracle)
        promise = f"features looked up for {named:,} calls that named the flight have the bits that other code gives"
        self.promises.hold(promise, (named, differing), (2 * total, 0))
        by_version = Counter(self.stream["version"].tolist())
        return {
            "predictions": len(self.stream["id"]),
            "by_version": {str(version): by_version[version] for version in sorted(by_version)},
            "http_calls": counts["http"],
            "grpc_calls": counts["grpc"],
            "named": named,
        }

    def _check_looked_up(self, oracle: Oracle) -> tuple[int, int]:
        """Compute anew what was looked up; return for how many answers, and how many cells have other bits."""
        direct = zip(self.direct["lookup"], self.direct["features"], strict=True)
        described = [(said, known) for said, known in direct if said is not None]
        differing = 0
        for said, known in described:
            published = np.array(msgspec.json.decode(known), np.float64)
            computed = np.array(oracle.looked_up(said.columns, parse(said.at), said.applied), np.float64)
            differing += int((published.view(np.uint64) != computed.view(np.uint64)).sum())
        return len(described), differing

    def latest_prediction(self) -> str:
        """Return the id of a prediction whose flight is known to have come late or not; empty when there is none."""
        known, _ = self._labels(self.stream["key"])
        return str(self.stream["id"][known][-1].decode()) if known.any() else ""

    def months(self) -> list[Month]:
        """Return the figures of each month that has enough labelled predictions."""
        known, late = self._labels(self.stream["key"])
        months = self.stream["time_us"].astype("datetime64[us]").astype("datetime64[M]")
        found = []
        for month in np.unique(months):
            inside = known & (months == month)
            if inside.sum() >= FEWEST:
                score, y = self.stream["score"][inside], late[inside]
                versions = sorted(set(self.stream["version"][inside].tolist()))
                figures = (float(y.mean()), float(roc_auc_score(y, score)), float(brier_score_loss(y, score)))
                found.append(Month(str(month), int(inside.sum()), *figures, versions))
        return found

    def weeks(self, width_us: int) -> list[Week]:
        """Return the figures of each version in each window that has enough labelled predictions."""
        known, late = self._labels(self.stream["key"])
        ends = self.stream["time_us"] // width_us * width_us + width_us
        found = []
        for end in np.unique(ends).tolist():
            for version in np.unique(self.stream["version"]).tolist():
                inside = known & (ends == end) & (self.stream["version"] == version)
                if inside.sum() >= FEWEST:
                    y = late[inside]
                    auc = float(roc_auc_score(y, self.stream["score"][inside]))
                    middle_us = int(self.stream["time_us"][inside].mean())
                    found.append(Week(end, version, int(inside.sum()), float(y.mean()), auc, middle_us))
        return found

    def backfill(self, onnx: bytes) -> dict[str, Any]:
        """Return what the first version would have reached, had it answered all the time: AUC and rows with a label."""
        due = self.rows["recorded_us"] >= self._activations[0].effective_us
        known, late = self._labels(self.rows["key"])
        chosen = due & known
        found = scores(onnx, self.rows["values"][chosen])
        return {"auc": float(roc_auc_score(late[chosen], found)), "rows": int(chosen.sum())}

    def _labels(self, flights: npt.NDArray[Any]) -> tuple[Bools, Bools]:
        """Return for each flight whether it is known if it came late, and if it did."""
        arrivals = self.accepted["flight_arrived"]
        known = np.flatnonzero(~np.isnan(arrivals["arr_delay"]))
        order = known[np.argsort(arrivals["key"][known])]
        at = np.minimum(np.searchsorted(arrivals["key"][order], flights), len(order) - 1)
        found = arrivals["key"][order][at] == flights
        return found, found & (arrivals["arr_delay"][order][at] > 15)
