"""What the platform asks of an event bus. Two implementations keep it: Kafka, and the in-memory twin for unit tests."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from mainstem.events.envelope import Message
from mainstem.events.record import Record

if TYPE_CHECKING:  # it names every fact
    from mainstem.events.topics import ConcreteTopic

Partition = tuple[str, int]
OnBatch = Callable[[Sequence[Record]], Awaitable[None]]
#: Where to start reading, asked each time partitions are assigned; a partition that is not named starts at 0.
#: It must not raise: while its store is away it waits.
Positions = Callable[[], Awaitable[Mapping[Partition, int]]]


class Publisher(Protocol):
    """Writes messages."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Write all messages; return when every one is acknowledged by all in-sync replicas.

        Messages for one partition are written in the order given. While the broker is away the call waits.
        Raises Unavailable when a message was refused or could not be written; then some of the messages may be
        in the log and some not, and the caller must end its process without committing anything.
        """


class Subscription(Protocol):
    """Reads the partitions that a consumer group gives to this process."""

    async def run(self, on_batch: OnBatch) -> None:
        """Call `on_batch` with the next records, again and again, until cancelled.

        Records of one partition come in order; a call holds records of several partitions in no special order.
        The next call is made when the one before returned. Partitions are given away only between calls.
        What `on_batch` raises, this raises, and nothing is acknowledged. It raises what says that records cannot be
        read, too: then some that were not handed over are lost to this process, which must end.
        """

    def assigned(self) -> bool:
        """Tell whether the group has told this process what to read; nothing, when others read it all."""

    def lag(self) -> dict[Partition, int]:
        """Return for each assigned partition how many records are known to lie ahead of the last one handed over.

        Nothing is said of partitions held off.
        """

    def hold_off(self, places: Collection[Partition]) -> None:
        """Read nothing more of these partitions and go on with all others, until the next call.

        What was read ahead of it is handed over still.
        """

    async def emptied(self) -> dict[Partition, int]:
        """Return the offset at which assigned partitions go on that hold no record any more.

        It is said of those alone of which something that was never handed over is gone, and of those that end before
        what was handed over: else the next record tells.
        """


class Bus(Protocol):
    """The event bus."""

    async def create(self, topics: "Sequence[ConcreteTopic]") -> None:
        """Create the topics that do not exist yet; leave the others as they are.

        Raises Rejected when one exists with other partitions, or with settings by which records would be lost.
        """

    def subscribe(self, group: str, topics: Sequence[str], positions: Positions) -> Subscription:
        """Return a subscription of `group`. The topics must exist. Reading starts with `run`."""

    @property
    def publisher(self) -> Publisher:
        """Return the publisher of this process."""
