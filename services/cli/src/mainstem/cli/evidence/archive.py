"""What explaining asks of an archive, be it the ledger's database or a copy of the log in files."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from mainstem.cli.evidence.columns import Columns
from mainstem.cli.signatures import Signatures
from mainstem.events.catalogue import decode
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import Envelope
from mainstem.events.errors import Rejected, Undecodable
from mainstem.events.fact import Fact
from mainstem.events.frames import Entry
from mainstem.events.ledger import ReceiptIssued
from mainstem.events.monitoring import AlertOpened, WindowJudged
from mainstem.events.registry import DeploymentSet, ProjectApplied, VersionRegistered
from mainstem.events.serving import DeploymentActivated, Predicted
from mainstem.events.training import RunCompleted
from mainstem.feature_engine import CompiledSet
from mainstem.ledger.note import Note
from mainstem.ledger_service.domain import Placed
from mainstem.project import ProjectDefinition, parse

#: The topics whose few events say how a version came to answer, and how it fared.
HISTORY: Final = (
    ProjectApplied.TOPIC,
    RunCompleted.TOPIC,
    VersionRegistered.TOPIC,
    DeploymentSet.TOPIC,
    DeploymentActivated.TOPIC,
    WindowJudged.TOPIC,
    AlertOpened.TOPIC,
    ReceiptIssued.TOPIC,
)
#: The family of topics with answers.
PREDICTIONS: Final = Predicted.TOPIC.partition("{")[0]

F = TypeVar("F", bound=Fact)
F_co = TypeVar("F_co", bound=Fact, covariant=True)


@dataclass(frozen=True, slots=True)
class Found(Generic[F_co]):
    """An event of the archive with its place."""

    leaf: int
    entry: Entry
    envelope: Envelope
    fact: F_co


def events(kind: type[F], placed: Iterable[Placed]) -> Iterator[Found[F]]:
    """Yield those that are events of a kind."""
    for leaf, entry in placed:
        try:
            event = decode(entry)
        except Undecodable:
            continue
        if isinstance(event.fact, kind):
            yield Found(leaf, entry, event.envelope, event.fact)


@dataclass(frozen=True, slots=True)
class Applied:
    """A definition, and the event by which it came into force."""

    found: Found[ProjectApplied]
    project: ProjectDefinition


class Chronicle:
    """The events of the topics of `HISTORY`, in the order of their leaves."""

    def __init__(self, placed: Sequence[Placed]) -> None:
        self._by_kind: dict[type[Fact], list[Found[Fact]]] = {}
        for found in events(Fact, placed):
            self._by_kind.setdefault(type(found.fact), []).append(found)

    def of(self, kind: type[F], **wanted: object) -> list[Found[F]]:
        """Return the events of a kind whose fields are as wanted."""
        return [
            Found(found.leaf, found.entry, found.envelope, found.fact)
            for found in self._by_kind.get(kind, ())
            if isinstance(found.fact, kind) and all(getattr(found.fact, name) == is_ for name, is_ in wanted.items())
        ]

    def last(self, kind: type[F], **wanted: object) -> Found[F] | None:
        """Return the last event of a kind whose fields are as wanted."""
        found = self.of(kind, **wanted)
        return found[-1] if found else None

    @cached_property
    def definitions(self) -> list[Applied]:
        """The definitions that were applied, but for those that are none."""
        readable = []
        for found in self.of(ProjectApplied):
            with suppress(Rejected):
                readable.append(Applied(found, parse(found.fact.definition)))
        return readable

    @property
    def unreadable(self) -> list[int]:
        """The leaves of the definitions that are none."""
        readable = {each.found.leaf for each in self.definitions}
        return [found.leaf for found in self.of(ProjectApplied) if found.leaf not in readable]


class ReadSet(NamedTuple):
    """A feature set, and how far an event of its sources may lie after its arrival."""

    compiled: CompiledSet
    ahead_us: int


class Proofs(Protocol):
    """Proves entries by one checkpoint that the log signed and a witness cosigned."""

    @property
    def note(self) -> Note:
        """Return the checkpoint."""

    @property
    def signatures(self) -> Signatures:
        """Return whose signatures of it were held against their keys."""

    @property
    def size(self) -> int:
        """Return the number of entries that it covers."""

    def path(self, leaf: int) -> list[bytes]:
        """Return the audit path of an entry (RFC 6962); raise Rejected for one that is not covered."""


class Archive(Protocol):
    """Looks entries up. All of them raise what reading may raise: Unavailable, Damaged."""

    async def with_id(self, event_id: str) -> list[Placed]:
        """Return the entries with this event id, the first first."""

    async def with_id_prefix(self, prefix: str, family: str) -> list[Placed]:
        """Return the entries of a family of topics (`tel.prediction.`) whose id begins with these hexadecimal digits.

        They are eight or more.
        """

    async def at(self, topic: str, part: int, offset: int) -> Placed | None:
        """Return the entry at a place of the log; None when the archive has none there."""

    async def chronicle(self) -> Chronicle:
        """Return the events of the topics of `HISTORY`."""

    async def keyed(self, source: str, column: str, value: object) -> list[Placed]:
        """Return the accepted records of a source whose column holds a value, in order; others may be among them."""

    async def columns(self, read: ReadSet, spine: Found[RecordAccepted]) -> Columns:
        """Return the records of a feature set, at least a spine record and those before it that its values can reach.

        Raises Rejected when the archive does not hold what the journal says.
        """

    async def frames(self, leaves: Sequence[int]) -> list[bytes]:
        """Return the frames of entries, in the order asked for."""

    async def predictions(self) -> Sequence[int]:
        """Return the leaves of all answers and of the markers among them, in order."""

    def proofs(self) -> Proofs:
        """Return what proves entries; raise Rejected when nothing does."""
