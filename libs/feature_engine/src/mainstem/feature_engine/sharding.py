"""Which worker answers for which key: an index is shared out by its keys, so that no two workers hold the same."""

from dataclasses import dataclass
from zlib import crc32

from mainstem.feature_engine.definition import Aggregate


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `of` equal parts of every index of a feature set."""

    number: int
    of: int

    def owns(self, index: str, key: str | None) -> bool:
        """Return whether a key of an index belongs to this part; no key is a key like others."""
        return shard_of(index, key, self.of) == self.number


def shard_of(index: str, key: str | None, shards: int) -> int:
    """Return the part that a key of an index belongs to, the same on every machine.

    >>> shard_of("orders/shop/shop", "A", 4), shard_of("orders/shop/shop", None, 4)
    (0, 2)
    """
    return crc32(f"{index}\0{'' if key is None else key}".encode()) % shards


def index_name(aggregate: Aggregate) -> str:
    """Return the name of the index that an aggregate is kept in."""
    return f"{aggregate.stream}/{aggregate.by}/{aggregate.at}"
