"""Which version answers a row, how far the log was seen, and how predictions are counted. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.events.catalogue import Record
from mainstem.events.envelope import Message
from mainstem.events.errors import Undecodable
from mainstem.events.ids import fingerprint
from mainstem.events.serving import Predicted

SOURCE = "/mainstem/serving"
#: Stands for "no version" in what `route` returns.
NONE = -1
#: (model, version, channel, partition of the prediction topic)
TallyKey = tuple[str, int, str, int]

_REACHED = Struct("<qqq")
_PREDICTED = Predicted.TYPE.encode()


@dataclass(frozen=True, slots=True)
class Activation:
    """A version that was verified and loaded, from a position on; times in µs since 1970, UTC."""

    deployment: str
    model: str
    version: int
    onnx: str
    feature_set: str
    feature_definition: str
    features: tuple[str, ...]
    effective_us: int
    #: First offset it scores, by partition of the feature topic; a partition that is not named counts from 0.
    from_offsets: Mapping[int, int]

    @property
    def topic(self) -> str:
        """Return the feature topic it reads."""
        return f"evt.feature.{self.feature_set}"


@dataclass(frozen=True, slots=True)
class Places:
    """Rows of one partition as the rule sees them; `definitions` holds an index into `known` for each row."""

    partition: int
    offsets: npt.NDArray[np.int64]
    recorded_us: npt.NDArray[np.int64]
    definitions: npt.NDArray[np.intp]
    known: Sequence[str]


def route(activations: Sequence[Activation], places: Places) -> npt.NDArray[np.intp]:
    """Return for each row the index of the activation that scores it, or NONE.

    It is the last one that was in effect when the row was recorded, was activated before the row was first scored,
    and takes rows of the row's feature definition. `activations` are those of one model in their order.
    """
    chosen = np.full(len(places.offsets), NONE, np.intp)
    for index, activation in enumerate(activations):
        if activation.feature_definition not in places.known:
            continue
        fits = places.definitions == places.known.index(activation.feature_definition)
        fits &= places.offsets >= activation.from_offsets.get(places.partition, 0)
        fits &= places.recorded_us >= activation.effective_us
        chosen[fits] = index
    return chosen


@dataclass(frozen=True, slots=True)
class Reached:
    """How far one partition was seen: the highest time it showed, and the row recorded last (µs, offset)."""

    log_us: int = 0
    row_us: int = 0
    row_offset: int = -1

    def with_row(self, recorded_us: int, offset: int) -> "Reached":
        """Return what is reached after a row."""
        if recorded_us < self.row_us:
            return self
        return Reached(max(self.log_us, recorded_us), recorded_us, offset)

    def with_marker(self, until_us: int) -> "Reached":
        """Return what is reached after a progress marker."""
        return Reached(max(self.log_us, until_us), self.row_us, self.row_offset)

    def dump(self) -> bytes:
        """Return the state as bytes; `load` reads them."""
        return _REACHED.pack(self.log_us, self.row_us, self.row_offset)

    @classmethod
    def load(cls, state: bytes) -> Self:
        """Return what `dump` gave."""
        return cls(*_REACHED.unpack(state))


@dataclass(slots=True)
class LogTime:
    """How far the partitions of the feature topics were seen."""

    partitions: dict[tuple[str, int], Reached] = field(default_factory=dict)

    def of(self, topic: str) -> tuple[int, str]:
        """Return the log time a topic has reached (µs), and the position `topic/partition/offset` of its newest row.

        Before the first row the position is that of offset -1.
        """
        seen = [(reached, number) for (name, number), reached in self.partitions.items() if name == topic]
        if not seen:
            return 0, f"{topic}/0/-1"
        newest, partition = max(seen, key=lambda pair: (pair[0].row_us, -pair[1]))
        return max(reached.log_us for reached, _ in seen), f"{topic}/{partition}/{newest.row_offset}"


class _Counted(msgspec.Struct):
    model: str
    version: int
    channel: str


_decode_counted = msgspec.json.Decoder(_Counted).decode


@dataclass(slots=True)
class Tally:
    """How many predictions, and the sum of the fingerprints of their ids (mod 2^63)."""

    n: int = 0
    fingerprint: int = 0

    def count(self, ids: Iterable[bytes]) -> None:
        """Count predictions by their ids."""
        prints = [fingerprint(given) for given in ids]
        self.n += len(prints)
        self.fingerprint = (self.fingerprint + sum(prints)) % 2**63


class Tallies(defaultdict[TallyKey, Tally]):
    """Tallies by model, version, channel and partition."""

    def __init__(self) -> None:
        super().__init__(Tally)

    @classmethod
    def of(cls, events: Iterable[Record | Message]) -> "Tallies":
        """Return the tallies of events of prediction topics; markers are not counted. Raises Undecodable."""
        tallies = cls()
        for event in events:
            headers = dict(event.headers)
            if headers.get("ce_type") != _PREDICTED:
                continue
            try:
                found = _decode_counted(event.value or b"")
                key = (found.model, found.version, found.channel, event.partition or 0)
                tallies[key].count([headers["ce_id"]])
            except (KeyError, msgspec.MsgspecError) as fault:
                raise Undecodable(f"an event of {event.topic} is no prediction: {fault!r}; fix its writer") from fault
        return tallies

    def add(self, other: "Tallies") -> None:
        """Add other tallies to these."""
        for key, tally in other.items():
            mine = self[key]
            mine.n += tally.n
            mine.fingerprint = (mine.fingerprint + tally.fingerprint) % 2**63
