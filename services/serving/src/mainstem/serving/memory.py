"""The store in memory, for unit tests. Same battery as PostgreSQL's."""

from mainstem.events.envelope import Event
from mainstem.events.fence import Position
from mainstem.events.registry import DeploymentSet, VersionApproved, VersionPromoted
from mainstem.events.serving import DeploymentActivated
from mainstem.serving.domain import Activation, Followed, Partition, Tallies
from mainstem.serving.ports import Parked, Progress


class MemoryStore:
    """Keeps `Store`'s promises as long as the process lives."""

    def __init__(self) -> None:
        self.positions: dict[Partition, Position] = {}
        self.states: dict[Partition, bytes] = {}
        self.tallies = Tallies()
        self.parked: list[Parked] = []
        #: Verdicts by the id of the deployment.
        self.verdicts: dict[str, Event] = {}
        #: What could not be loaded any more, by deployment, rule and reason.
        self.losses: dict[tuple[str, str, str], Activation] = {}
        self.may_drop: set[str] = set()
        self.readers: dict[str, list[str]] = {}
        self._approved: set[tuple[str, int, str]] = set()
        self._promoted: set[tuple[str, str, int]] = set()
        self._deployments: dict[str, Event] = {}

    async def apply(self, event: Event) -> None:
        """Fold a fact of the registry."""
        match event.fact:
            case VersionApproved() as fact:
                self._approved.add((fact.model, fact.version, fact.onnx))
            case VersionPromoted() as fact:
                self._promoted.add((event.envelope.id, fact.model, fact.version))
            case DeploymentSet():
                self._deployments[event.envelope.id] = event
            case _:
                return

    async def save(self, progress: Progress) -> None:
        """Store all of it, once."""
        stored = {place: position.next_offset for place, position in self.positions.items()}
        if all(stored.get(place) == position.next_offset for place, position in progress.positions.items()):
            return
        self.positions |= progress.positions
        self.states |= progress.states
        self.tallies.add(progress.tallies)
        self.parked += progress.parked

    async def pending(self) -> list[Event]:
        """Return the deployments without a verdict."""
        return [event for event in self._in_order() if event.envelope.id not in self.verdicts]

    async def approved(self, model: str, version: int, onnx: str) -> bool:
        """Tell whether this version and digest was approved."""
        return (model, version, onnx) in self._approved

    async def promoted(self, deployment: Event, model: str, version: int) -> bool:
        """Tell whether a known promotion caused it, and no other one that was activated."""
        cause = deployment.envelope.causation
        used = {self._deployments[activation.deployment].envelope.causation for activation in await self.activations()}
        return (cause, model, version) in self._promoted and cause not in used

    async def record(self, verdict: Event) -> None:
        """Keep the first verdict on a deployment."""
        self.verdicts.setdefault(verdict.envelope.causation, verdict)

    async def record_loss(self, lost: Activation, rule: str, reason: str) -> None:
        """Keep it, for one reason once."""
        self.losses[lost.deployment, rule, reason] = lost

    async def activations(self) -> list[Activation]:
        """Return all activations."""
        return [
            Activation.of(event.envelope.id, event.fact, verdict.fact)
            for event in self._in_order()
            if isinstance(event.fact, DeploymentSet)
            and (verdict := self.verdicts.get(event.envelope.id))
            and isinstance(verdict.fact, DeploymentActivated)
        ]

    async def droppable(self) -> set[str]:
        """Return what a test set."""
        return self.may_drop

    async def feature_topics(self) -> dict[str, list[str]]:
        """Return what a test set."""
        return self.readers

    async def lookups(self) -> dict[str, Followed]:
        """Return none."""
        return {}

    def _in_order(self) -> list[Event]:
        return sorted(self._deployments.values(), key=lambda e: int((e.envelope.origin or "/0").rpartition("/")[2]))
