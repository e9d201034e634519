"""What is said of entities by who calls, and what is known of them; see ADR 23."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

Floats = npt.NDArray[np.float64]
#: What is said of entities, by column of the spine: a value for each, None = unknown.
Columns = Mapping[str, Sequence[object]]


class Entities(NamedTuple):
    """What is known of some entities: by column of the set a value for each, decoded; None where nothing was said."""

    number: int
    columns: Sequence[Sequence[object] | None]


class AsOf(msgspec.Struct, frozen=True, dict=True):
    """As of which point of the log features are: the set, the newest instant applied, how many records, how old."""

    feature_set: str
    definition: str
    at: str
    at_us: int
    applied: int
    #: By source the seconds since its newest record became known; None before the first.
    ages: Mapping[str, float | None]
    #: Sources older than their limit.
    stale: Sequence[str]

    def parameters(self) -> dict[str, str | int | float]:
        """Return what the protocol carries of it; `age_s.SOURCE` is left out before the first record."""
        found: dict[str, str | int | float] = {
            "feature_set": self.feature_set,
            "feature_definition": self.definition,
            "features_at": self.at,
            "features_applied": self.applied,
        }
        found |= {f"age_s.{name}": age for name, age in self.ages.items() if age is not None}
        return found | {"stale": ", ".join(self.stale)} if self.stale else found

    @cached_property
    def written(self) -> bytes:
        """Return its parameters as JSON without the braces."""
        return orjson.dumps(self.parameters())[1:-1]


class Lookup(Protocol):
    """Knows the features of entities."""

    def entities(self, columns: Columns) -> Entities:
        """Return the entities that are described; raise BadRequest for what describes none."""

    def as_of(self) -> AsOf:
        """Return where it stands. Raises NotReady while it cannot answer, and when it must not for its age."""

    def ages(self) -> Mapping[str, float | None]:
        """Return by source the seconds since its newest record became known; None before the first."""

    def read(self, asked: Sequence[Entities]) -> Floats:
        """Return float64 [entities, features] of what was described, one after the other, as it stands."""
