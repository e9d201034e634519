"""Which version answers a row, how far the log was seen, and how predictions are counted. Pure.

How one version takes over from another that reads another feature set: docs/adr/0009-versions-of-a-feature-set.md.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import msgspec

from mainstem.events.envelope import Message
from mainstem.events.errors import NO_DOCUMENT, Undecodable
from mainstem.events.ids import fingerprint
from mainstem.events.instants import NEVER, parse
from mainstem.events.names import PREDICTED, rows_of
from mainstem.events.record import Record

if TYPE_CHECKING:  # a worker needs no models of events
    from mainstem.events.registry import DeploymentSet
    from mainstem.events.serving import DeploymentActivated

SOURCE = "/mainstem/serving"
#: The end of what is in charge now.
FOREVER = 2**63 - 1
#: The weights of arms are shares of this.
WHOLE = 10_000
Partition = tuple[str, int]
#: (model, version, channel, partition of the prediction topic)
TallyKey = tuple[str, int, str, int]

_REACHED = Struct("<qqqq")
_PREDICTED = PREDICTED.encode()


@dataclass(frozen=True, slots=True)
class Arm:
    """A version beside the one that was activated: it answers so many `WHOLE`ths of the entities, or is a shadow."""

    version: int
    onnx: str
    weight: int
    shadow: bool


_topic_of = cache(rows_of)


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
    #: What stands beside it for direct calls.
    arms: tuple[Arm, ...] = ()
    #: What the shares of the arms are drawn with.
    salt: str = ""

    @classmethod
    def of(cls, deployment: str, wanted: "DeploymentSet", fact: "DeploymentActivated") -> Self:
        """Return what a verdict on a deployment put into effect."""
        return cls(
            deployment,
            fact.model,
            fact.version,
            fact.onnx,
            wanted.feature_set,
            wanted.feature_definition,
            tuple(wanted.features),
            parse(fact.effective_from),
            {int(number): offset for number, offset in fact.from_offsets.items()},
            tuple(Arm(arm.version, arm.onnx, arm.weight, arm.shadow) for arm in wanted.arms),
            wanted.salt,
        )

    def versions(self) -> "list[Activation]":
        """Return itself and what stands beside it, each as if it stood alone."""
        alone = replace(self, arms=())
        return [alone, *(replace(alone, version=arm.version, onnx=arm.onnx) for arm in self.arms)]

    @property
    def topic(self) -> str:
        """Return the feature topic it reads."""
        return _topic_of(self.feature_set)


class Followed(msgspec.Struct, frozen=True):
    """A feature set whose values are looked up: its label, and the definition of its project, as canonical JSON."""

    feature_set: str
    project: bytes
    #: The columns by which entities are described, each with the datatype of the tensor that says it.
    columns: Mapping[str, str] = {}


def spool_name(incarnation: str) -> str:
    """Return what a spool is called in the metrics."""
    return incarnation[:8]


def no_probability(activation: Activation, why: str | None, what: str = "") -> str:
    """Say that a version gave no probability for something, and why if it failed."""
    said = f"model {activation.model} version {activation.version} gave no probability{what}"
    return said if why is None else f"{said}: {why}"


def takes_over(before: Activation | None, feature_definition: str) -> bool:
    """Tell whether a version on this feature set takes over from one on another."""
    return before is not None and before.feature_definition != feature_definition


def in_effect_from(asked_us: int, before: Activation | None, seen_us: int) -> int:
    """Return from when on an activation is in effect (µs): as asked, but behind the one before it and all `seen_us`.

    `seen_us` is the latest that was seen of either feature set when one takes over from another, else NEVER.
    """
    return max(asked_us, seen_us + 1, NEVER if before is None else before.effective_us)


class Charge(NamedTuple):
    """The feature topic in charge of a model up to and with an instant (µs), from the end of the charge before."""

    topic: str
    until_us: int


def charges(activations: Sequence[Activation], read: Collection[str]) -> list[Charge]:
    """Return which topics were and are in charge, in order, of those that are `read`; before any activation these."""
    ends = [*(activation.effective_us - 1 for activation in activations[1:]), FOREVER]
    found: list[Charge] = []
    for activation, end_us in zip(activations, ends, strict=False):
        if activation.topic in read and activation.effective_us <= end_us:
            if found and found[-1].topic == activation.topic:
                found.pop()
            found.append(Charge(activation.topic, end_us))
    return found or [Charge(topic, FOREVER) for topic in sorted(read)]


def unfinished(order: Sequence[Charge], passed: Mapping[str, int]) -> Charge:
    """Return the first charge that its topic has not passed yet; `passed` is how far each topic was announced (µs)."""
    return next((one for one in order if passed.get(one.topic, NEVER) < one.until_us), order[-1])


def complete_through(order: Sequence[Charge], passed: Mapping[str, int]) -> int:
    """Return up to which instant (µs) all is answered: what no charge has still to come before it."""
    last = unfinished(order, passed)
    ended = [one.until_us for one in order[: order.index(last)]]
    return max([*ended, passed.get(last.topic, NEVER)])


@dataclass(frozen=True, slots=True)
class Reached:
    """How far one partition was seen: the highest time it showed, the row recorded last (µs, offset), the last marker.

    `passed_us` is what the markers announce: nothing recorded up to there will follow.
    """

    log_us: int = 0
    row_us: int = 0
    row_offset: int = -1
    passed_us: int = NEVER

    def with_row(self, recorded_us: int, offset: int) -> "Reached":
        """Return what is reached after a row."""
        if recorded_us < self.row_us:
            return self
        return replace(self, log_us=max(self.log_us, recorded_us), row_us=recorded_us, row_offset=offset)

    def with_marker(self, until_us: int) -> "Reached":
        """Return what is reached after a progress marker."""
        return replace(self, log_us=max(self.log_us, until_us), passed_us=max(self.passed_us, until_us))

    def dump(self) -> bytes:
        """Return the state as bytes; `load` reads them."""
        return _REACHED.pack(self.log_us, self.row_us, self.row_offset, self.passed_us)

    @classmethod
    def load(cls, state: bytes) -> Self:
        """Return what `dump` gave."""
        return cls(*_REACHED.unpack(state))


@dataclass(slots=True)
class LogTime:
    """How far the partitions of the feature topics were seen."""

    partitions: dict[Partition, Reached] = field(default_factory=dict)
    #: Is told what was seen.
    seen: Callable[[Mapping[Partition, Reached]], None] = lambda _: None
    #: What `of` said last, by topic.
    _said: dict[str, tuple[int, str]] = field(default_factory=dict)

    def see(self, partitions: Mapping[Partition, Reached]) -> None:
        """Take notice of how far partitions were seen."""
        self.partitions.update(partitions)
        self._said.clear()
        self.seen(partitions)

    def latest(self, topics: Collection[str]) -> int:
        """Return the highest time that any partition of these topics showed (µs)."""
        return max((reached.log_us for (name, _), reached in self.partitions.items() if name in topics), default=NEVER)

    def of(self, topic: str) -> tuple[int, str]:
        """Return the log time a topic has reached (µs), and the position `topic/partition/offset` of its newest row.

        Before the first row the position is that of offset -1.
        """
        known = self._said.get(topic)
        if known is None:
            known = self._said[topic] = self._of(topic)
        return known

    def _of(self, topic: str) -> tuple[int, str]:
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
        ids: defaultdict[TallyKey, list[bytes]] = defaultdict(list)
        for event in events:
            headers = dict(event.headers)
            if headers.get("ce_type") != _PREDICTED:
                continue
            try:
                found = _decode_counted(event.value or b"")
                ids[found.model, found.version, found.channel, event.partition or 0].append(headers["ce_id"])
            except (KeyError, *NO_DOCUMENT) as fault:
                raise Undecodable(f"an event of {event.topic} is no prediction: {fault!r}; fix its writer") from fault
        tallies = cls()
        for key, some in ids.items():
            tallies[key].count(some)
        return tallies

    def add(self, other: "Tallies") -> None:
        """Add other tallies to these."""
        for key, tally in other.items():
            mine = self[key]
            mine.n += tally.n
            mine.fingerprint = (mine.fingerprint + tally.fingerprint) % 2**63


@dataclass(frozen=True, slots=True)
class Indexed:
    """A version that answers direct calls, and whether it can."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str = ""


@dataclass(slots=True)
class Usage:
    """What was done for the direct calls of one version since the process began; times in ns."""

    name: str
    version: str
    rows: int = 0
    runs: int = 0
    answered: int = 0
    refused: int = 0
    #: For each call that was answered how long the first of its turn waited for the run, and how long that took.
    queue_ns: int = 0
    compute_ns: int = 0
    #: Milliseconds since 1970, of the last answer.
    last_ms: int = 0
    #: By rows of a run: how many, and their time.
    by_rows: dict[int, tuple[int, int]] = field(default_factory=dict)

    def ran(self, rows: int, spent_ns: int) -> None:
        """Note a run of so many rows."""
        self.rows += rows
        self.runs += 1
        runs, spent = self.by_rows.get(rows, (0, 0))
        self.by_rows[rows] = runs + 1, spent + spent_ns

    def gave(self, calls: int, waited_ns: int, spent_ns: int, now_ms: int) -> None:
        """Note answers to calls, of which the first had waited so long for a run of so long."""
        self.answered += calls
        self.queue_ns += calls * waited_ns
        self.compute_ns += calls * spent_ns
        self.last_ms = now_ms

    def add(self, other: "Usage") -> None:
        """Add what another process did for the same version."""
        self.rows += other.rows
        self.runs += other.runs
        self.answered += other.answered
        self.refused += other.refused
        self.queue_ns += other.queue_ns
        self.compute_ns += other.compute_ns
        self.last_ms = max(self.last_ms, other.last_ms)
        for rows, (runs, spent_ns) in other.by_rows.items():
            known = self.by_rows.get(rows, (0, 0))
            self.by_rows[rows] = known[0] + runs, known[1] + spent_ns


def summed(usages: Iterable[Usage]) -> list[Usage]:
    """Return what several processes did together, by version."""
    total: dict[tuple[str, str], Usage] = {}
    for used in usages:
        total.setdefault((used.name, used.version), Usage(used.name, used.version)).add(used)
    return [total[key] for key in sorted(total)]
