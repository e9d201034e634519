"""What serving does: decides on deployments, scores the stream."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from mainstem.bus import Publisher
from mainstem.events.catalogue import Record
from mainstem.events.envelope import Event, Fact, follow
from mainstem.events.fence import Fence, Position
from mainstem.events.instants import parse
from mainstem.events.registry import DeploymentSet
from mainstem.events.serving import DeploymentActivated, DeploymentRefused
from mainstem.runtime import steadily
from mainstem.serving.domain import SOURCE, LogTime
from mainstem.serving.engine import BadSignature, Board, NotLoaded, Scored, Scorer
from mainstem.serving.loader import Loader
from mainstem.serving.ports import (
    Partition,
    Progress,
    Published,
    Store,
)
from mainstem.storage import ArtifactCorrupt, ArtifactMissing
from mainstem.telemetry import Tracer, logger, metrics

#: An approval and a deployment travel on two topics that have no common order: so long is the later one waited for.
APPROVAL_WAIT_S = 3.0

_POLL_S = 0.25
#: Direct calls are answered between slices of the stream.
_SLICE = 256

_log = logger(__name__)


class Stream:
    """Scores feature rows. One process takes all partitions of a feature topic.

    A batch is scored, published and acknowledged before the next is taken; a second later at the latest its positions
    and tallies are stored together. After a crash what came after the last checkpoint is scored again by the versions
    that stand in the store, and published again under the same ids and origins.
    """

    def __init__(self, board: Board, loader: Loader, fence: Fence, log: LogTime, tracer: Tracer) -> None:
        #: Held while a batch is on its way; whoever holds it may change what the board routes by.
        self.lock = asyncio.Lock()
        self.log = log
        self._loader = loader
        self._fence = fence
        self._scorer = Scorer(board, tracer)
        self._handed_over: dict[Partition, int] = {}
        self._progress = Progress()

    async def on_records(self, records: Sequence[Record], *, publisher: Publisher) -> None:
        """Score and publish a batch; while a version that it needs cannot be loaded, wait."""
        while True:
            try:
                async with self.lock:
                    return await self._take(records, publisher)
            except NotLoaded as missing:
                # Without the lock, so that another version can be activated in its place meanwhile.
                await self._loader.restore(missing.activation)

    async def _take(self, records: Sequence[Record], publisher: Publisher) -> None:
        places = {(r.topic, r.partition) for r in records}
        # On a copy: a batch that does not get through, or is cancelled on its way, leaves no trace.
        fence = Fence({place: _copy(self._fence.positions.get(place)) for place in places})
        fresh, headers = fence.admit(records)
        scored, log = await self._score(fresh, headers)
        for place in places:
            self._handed_over[place] = fence.positions[place].next_offset
        await publisher.publish(scored.messages)
        self._fence.positions.update(fence.positions)
        self.log.partitions.update(log.partitions)
        self._progress.add(scored.tallies, scored.parked, fence.positions)
        for topic, count in Counter(record.topic for record in records).items():
            metrics.RECORDS.labels(topic).inc(count)
        metrics.LOG_TIME.set(max((r.log_us for r in self.log.partitions.values()), default=0) / 1e6)
        _measure(scored, len(records) - len(fresh))

    async def _score(self, records: Sequence[Record], headers: Sequence[Mapping[str, bytes]]) -> tuple[Scored, LogTime]:
        scored, log = Scored(), LogTime(dict(self.log.partitions))
        for at in range(0, len(records), _SLICE):
            scored.add(self._scorer.score(records[at : at + _SLICE], headers[at : at + _SLICE], log))
            log.partitions.update(scored.reached)
            await asyncio.sleep(0)
        return scored, log

    def offsets(self) -> dict[Partition, int]:
        """Return where to go on reading."""
        return self._fence.offsets()

    def first_unscored(self, topic: str, published: Mapping[int, int]) -> dict[str, int]:
        """Return for each partition of a feature topic the first offset that no process ever handed to the bus.

        `published` says what earlier processes did; call it with the lock held.
        """
        found = {number: offset + 1 for number, offset in published.items()}
        for place, offset in [*self._handed_over.items(), *self._fence.offsets().items()]:
            if place[0] == topic:
                found[place[1]] = max(offset, found.get(place[1], 0))
        return {str(number): offset for number, offset in sorted(found.items())}

    async def checkpoint(self, store: Store) -> None:
        """Store what was published since the last checkpoint; nothing to do when nothing was."""
        async with self.lock:
            progress = self._progress
            if not progress.positions:
                return
            progress.states = {
                place: self.log.partitions[place].dump() for place in progress.positions if place in self.log.partitions
            }
            # Not one more row is added until it is known what stands in the store: tallies add up.
            await steadily(lambda: store.save(progress))
            self._progress = Progress()


class Deployments:
    """Decides on what the registry deployed: verifies it, activates it from a position on, or refuses it."""

    def __init__(
        self,
        store: Store,
        board: Board,
        loader: Loader,
        stream: Stream,
        published: Published,
        *,
        wait_s: float = APPROVAL_WAIT_S,
    ) -> None:
        self._wait_s = wait_s
        self._store = store
        self._board = board
        self._loader = loader
        self._stream = stream
        self._published = published
        self._news = asyncio.Event()
        self._first_seen: dict[str, float] = {}

    def wake(self) -> None:
        """Look again soon: a deployment or an approval was stored."""
        self._news.set()

    async def restore(self) -> None:
        """Route by the stored activations, and load what answers direct calls."""
        self._board.swap(await self._store.activations())
        for activation in self._board.missing():
            await self._loader.restore(activation)

    async def run(self) -> None:
        """Decide on every deployment for ever, and load again what could not be loaded."""
        while True:
            self._news.clear()
            await steadily(self.decide)
            for activation in self._board.missing():
                await self._loader.restore(activation)
            try:
                async with asyncio.timeout(_POLL_S if self._first_seen or self._board.missing() else None):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def decide(self) -> None:
        """Decide on what is pending, but for deployments that still wait for their approval."""
        for event in await self._store.pending():
            if isinstance(event.fact, DeploymentSet) and await self._decide(event, event.fact):
                self._first_seen.pop(event.envelope.id, None)

    async def _decide(self, event: Event, wanted: DeploymentSet) -> bool:
        missing = await self._missing(event, wanted)
        if missing is not None:
            return False if self._may_wait(event.envelope.id) else await self._refuse(event, wanted, *missing)
        try:
            parse(wanted.effective_from)
            await self._loader.load(wanted.onnx, len(wanted.features))
        except (ArtifactMissing, ArtifactCorrupt) as fault:
            return await self._refuse(event, wanted, "artifact_digest", str(fault))
        except BadSignature as fault:
            return await self._refuse(event, wanted, "signature", str(fault))
        except ValueError as fault:
            return await self._refuse(event, wanted, "effective_from", str(fault))
        await self._activate(event, wanted)
        return True

    async def _missing(self, event: Event, wanted: DeploymentSet) -> tuple[str, str] | None:
        """Return what of the registry's decisions does not stand behind a deployment: rule and reason."""
        version = f"{wanted.model} version {wanted.version}"
        if not await self._store.approved(wanted.model, wanted.version, wanted.onnx):
            unknown = f"no approval of {version} with digest {wanted.onnx} is known"
            return "not_approved", f"{unknown}; approve it, then promote it"
        if not await self._store.promoted(event, wanted.model, wanted.version):
            return "not_promoted", f"no promotion of {version} led to this deployment and to no other; promote it"
        return None

    def _may_wait(self, deployment: str) -> bool:
        now = asyncio.get_running_loop().time()
        return now - self._first_seen.setdefault(deployment, now) < self._wait_s

    async def _refuse(self, event: Event, wanted: DeploymentSet, rule: str, reason: str) -> bool:
        _log.error("refused: %s", reason, extra={"action": "refused", "model": wanted.model, "rule": rule})
        fact = DeploymentRefused(model=wanted.model, version=wanted.version, rule=rule, reason=reason)
        await self._store.record(_verdict(event, fact))
        return True

    async def _activate(self, event: Event, wanted: DeploymentSet) -> None:
        topic = f"evt.feature.{wanted.feature_set}"
        published = await self._published(f"tel.prediction.{wanted.model}", topic)
        async with self._stream.lock:
            fact = DeploymentActivated(
                model=wanted.model,
                version=wanted.version,
                onnx=wanted.onnx,
                effective_from=wanted.effective_from,
                from_offsets=self._stream.first_unscored(topic, published),
            )

            async def store_and_route() -> None:
                await self._store.record(_verdict(event, fact))
                self._board.swap(await self._store.activations())

            # No row is scored until it is known what stands in the store: a commit whose answer was lost may count.
            await steadily(store_and_route)
        _log.info("activated", extra={"action": "activated", "model": wanted.model, "version": wanted.version})


async def forever(every_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` again and again, with a pause before each time; while something is away, it waits."""
    while True:
        await asyncio.sleep(every_s)
        await steadily(work)


def _verdict(event: Event, fact: Fact) -> Event:
    return follow(event.envelope, fact, source=SOURCE)


def _copy(position: Position | None) -> Position:
    return Position() if position is None else Position(position.next_offset, dict(position.origins))


def _measure(scored: Scored, fenced: int) -> None:
    metrics.FENCED.inc(fenced)
    for (model, version, channel, _), tally in scored.tallies.items():
        metrics.PREDICTIONS.labels(model, version, channel).inc(tally.n)
    for model, rows in scored.unscored.items():
        metrics.UNSCORED.labels(model).inc(rows)
    for parked in scored.parked:
        metrics.PARKED.labels(parked.record.topic).inc()
        _log.error("parked: %s", parked.reason, extra={"action": "parked", "topic": parked.record.topic})
