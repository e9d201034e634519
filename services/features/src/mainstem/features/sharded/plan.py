"""How a feature set is shared out: its topics and stages, the same for every worker."""

from collections.abc import Mapping
from dataclasses import dataclass

from mainstem.events.errors import Rejected
from mainstem.events.topics import LARGEST_SOURCE_MESSAGE, ConcreteTopic
from mainstem.feature_engine import LAST_INSTANT, CompiledSet, index_name
from mainstem.features.ports import Partition
from mainstem.fold.fold import inputs
from mainstem.project.contract import SourceContract


@dataclass(frozen=True, slots=True)
class Plan:
    """A feature set in `shards` parts."""

    compiled: CompiledSet
    contracts: Mapping[str, SourceContract]
    shards: int

    @property
    def name(self) -> str:
        """What its topics, groups and states go by: another definition or number of shards begins anew."""
        return f"{self.compiled.label}.{self.compiled.id[7:15]}.{self.shards}"

    @property
    def fold_topic(self) -> str:
        """The topic with a partition for each shard."""
        return f"int.feature.{self.name}.fold"

    @property
    def join_topic(self) -> str:
        """The topic with a partition for each partition of the spine."""
        return f"int.feature.{self.name}.join"

    @property
    def order_topic(self) -> str:
        """The topic from which the journal is made; it has one partition."""
        return f"int.feature.{self.name}.order"

    @property
    def places(self) -> list[Partition]:
        """The source partitions that are read."""
        return list(inputs(self.compiled, self.contracts))

    @property
    def spine_partitions(self) -> int:
        """How many partitions the rows have."""
        return self.contracts[self.compiled.spine].partitions

    @property
    def topics(self) -> list[ConcreteTopic]:
        """The internal topics. They keep for a day what the stages have long read."""
        config = {
            "cleanup.policy": "delete",
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": str(86_400_000),
            "max.message.bytes": str(LARGEST_SOURCE_MESSAGE),
        }
        return [
            ConcreteTopic(self.fold_topic, self.shards, config),
            ConcreteTopic(self.join_topic, self.spine_partitions, config),
            ConcreteTopic(self.order_topic, 1, config),
        ]

    def check(self) -> None:
        """Raise Rejected for a set that cannot be dealt out."""
        live = sorted(
            {topic for (topic, _), announces in inputs(self.compiled, self.contracts).items() if not announces}
        )
        if live:
            reads = f"feature set {self.compiled.label!r} reads {', '.join(live)}, which announce no progress"
            raise Rejected(f"{reads}: their order is what one reader saw; run it with one shard")

    def too_late(self, time: int, arrival: int) -> bool:
        """Tell whether what happened at `time` became known too late, at `arrival`, both in µs."""
        return time < min(arrival, LAST_INSTANT) - self.compiled.definition.lateness

    def asked(self, source: str) -> list[tuple[str, str]]:
        """Return of each index that records of a source concern its name and the record's column with the key."""
        found: dict[tuple[str, str], None] = {}
        for aggregate in self.compiled.definition.aggregates:
            if aggregate.stream == source:
                found[index_name(aggregate), aggregate.by] = None
            if source == self.compiled.spine:
                found[index_name(aggregate), aggregate.at] = None
        return list(found)
