"""Where serving decides on deployments: it verifies them, and says from when and from where on each answers."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

from mainstem.events.envelope import Event, follow
from mainstem.events.fact import Fact
from mainstem.events.features import RowComputed
from mainstem.events.instants import NEVER, parse, render
from mainstem.events.registry import DeploymentArm, DeploymentSet
from mainstem.events.serving import DeploymentActivated, DeploymentRefused
from mainstem.intake import Refused
from mainstem.runtime import steadily
from mainstem.serving.arms import misfit
from mainstem.serving.board import Board
from mainstem.serving.domain import SOURCE, Activation, Partition, in_effect_from, takes_over
from mainstem.serving.engine import BadSignature
from mainstem.serving.loader import Loader, NotWarm
from mainstem.serving.ports import Past, Store
from mainstem.serving.reference import Unlike
from mainstem.storage import ArtifactCorrupt, ArtifactMissing
from mainstem.telemetry import logger

#: An approval and a deployment travel on two topics that have no common order: so long is the later one waited for.
APPROVAL_WAIT_S = 3.0

#: What keeps a version from answering, and the rule that a refusal names.
_RULES: Final[Mapping[type[Exception], str]] = {
    ArtifactMissing: "artifact_digest",
    ArtifactCorrupt: "artifact_digest",
    Refused: "intake",
    BadSignature: "signature",
    Unlike: "reference",
    NotWarm: "workers",
    ValueError: "effective_from",
}

_POLL_S = 0.25

_log = logger(__name__)


class Flow(Protocol):
    """What a decision must know of the stream. It stands still for whoever holds the lock."""

    lock: asyncio.Lock

    def offsets(self) -> dict[Partition, int]:
        """Return where to go on reading."""

    def first_unscored(self, topic: str, published: Mapping[int, int]) -> dict[str, int]:
        """Return for each partition of a feature topic the first offset that no process ever handed to the bus."""

    def latest(self, topics: Collection[str]) -> int:
        """Return the latest time (µs) that was seen of some feature topics, or NEVER."""


class Deployments:
    """Decides on what the registry deployed: verifies it, activates it from a position on, or refuses it."""

    def __init__(
        self,
        store: Store,
        board: Board,
        loader: Loader,
        stream: Flow,
        past: Past,
        *,
        wait_s: float = APPROVAL_WAIT_S,
    ) -> None:
        self._wait_s = wait_s
        self._store = store
        self._board = board
        self._loader = loader
        self._stream = stream
        self._past = past
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
        wrong = misfit(wanted)
        if wrong is not None:
            return await self._refuse(event, wanted, "arms", wrong)
        missing = await self._missing(event, wanted)
        if missing is not None and self._may_wait(event.envelope.id):
            return False
        fault = missing or await self._unfit(wanted)
        if fault is not None:
            return await self._refuse(event, wanted, *fault)
        await self._activate(event, wanted)
        return True

    async def _unfit(self, wanted: DeploymentSet) -> tuple[str, str] | None:
        """Load every version of a deployment; return why one of them cannot answer: rule and reason."""
        try:
            parse(wanted.effective_from)
            for version in _versions(wanted):
                await self._loader.load(version.onnx, len(wanted.features), version.profile)
        except tuple(_RULES) as fault:
            return next(rule for kind, rule in _RULES.items() if isinstance(fault, kind)), str(fault)
        return None

    async def _missing(self, event: Event, wanted: DeploymentSet) -> tuple[str, str] | None:
        """Return what of the registry's decisions does not stand behind a deployment: rule and reason."""
        for each in _versions(wanted):
            if not await self._store.approved(wanted.model, each.version, each.onnx):
                unknown = f"no approval of {wanted.model} version {each.version} with digest {each.onnx} is known"
                return "not_approved", f"{unknown}; approve it, then promote it"
        if not await self._promoted(event, wanted):
            led = f"no promotion of {wanted.model} version {wanted.version} led to this deployment and to no other"
            return "not_promoted", f"{led}; promote it"
        return None

    async def _promoted(self, event: Event, wanted: DeploymentSet) -> bool:
        """Tell whether a promotion of one of its versions led to it, and the rest of what answers did so before."""
        answering = {wanted.version, *(arm.version for arm in wanted.arms if not arm.shadow)}
        for each in _versions(wanted):
            if await self._store.promoted(event, wanted.model, each.version):
                return answering <= {each.version} | self._board.answering(wanted.model)
        return False

    def _may_wait(self, deployment: str) -> bool:
        now = asyncio.get_running_loop().time()
        return now - self._first_seen.setdefault(deployment, now) < self._wait_s

    async def _refuse(self, event: Event, wanted: DeploymentSet, rule: str, reason: str) -> bool:
        _log.error("refused: %s", reason, extra={"action": "refused", "model": wanted.model, "rule": rule})
        fact = DeploymentRefused(model=wanted.model, version=wanted.version, rule=rule, reason=reason)
        await self._store.record(_verdict(event, fact))
        return True

    async def _activate(self, event: Event, wanted: DeploymentSet) -> None:
        topic, earlier = RowComputed.topic_of(wanted.feature_set), self._board.of(wanted.model)
        before = earlier[-1] if earlier else None
        topics = {topic, before.topic} if before and takes_over(before, wanted.feature_definition) else set()
        published = await self._published(wanted.model, {topic, *topics}, earlier)
        seen_us = await self._unstored(topics, published)
        async with self._stream.lock:
            seen_us = max(seen_us, self._stream.latest(topics))
            fact = DeploymentActivated(
                model=wanted.model,
                version=wanted.version,
                onnx=wanted.onnx,
                effective_from=render(in_effect_from(parse(wanted.effective_from), before, seen_us)),
                from_offsets=self._stream.first_unscored(topic, published[topic]),
            )

            async def store_and_route() -> None:
                await self._store.record(_verdict(event, fact))
                self._board.swap(await self._store.activations())

            # No row is scored until it is known what stands in the store: a commit whose answer was lost may count.
            await steadily(store_and_route)
        _log.info("activated", extra={"action": "activated", "model": wanted.model, "version": wanted.version})

    async def _published(
        self, model: str, topics: Collection[str], earlier: Sequence[Activation]
    ) -> dict[str, Mapping[int, int]]:
        """Return what earlier processes published for each topic; of one that no activation reads there is nothing."""
        read = {activation.topic for activation in earlier} or topics
        answers = f"tel.prediction.{model}"
        return {topic: await self._past.published(answers, topic) if topic in read else {} for topic in topics}

    async def _unstored(self, topics: Collection[str], published: Mapping[str, Mapping[int, int]]) -> int:
        """Return the latest time (µs) of what earlier processes published and did not store, or NEVER."""
        offsets, latest = self._stream.offsets(), NEVER
        for topic in topics:
            spans = {number: range(offsets.get((topic, number), 0), at + 1) for number, at in published[topic].items()}
            if any(spans.values()):
                latest = max(latest, await self._past.latest(topic, {n: span for n, span in spans.items() if span}))
        return latest


def _versions(wanted: DeploymentSet) -> list[DeploymentSet | DeploymentArm]:
    """Return what a deployment says of each of its versions."""
    return [wanted, *wanted.arms]


def _verdict(event: Event, fact: Fact) -> Event:
    return follow(event.envelope, fact, source=SOURCE)
