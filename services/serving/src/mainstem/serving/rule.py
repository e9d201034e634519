"""The rule: which version scores which rows of the stream. Pure; see ADR 9."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mainstem.serving.domain import Activation

#: Stands for "no version" in what `route` returns.
NONE = -1
#: Stands there for "a version that answers the record's row in another feature set".
ELSEWHERE = -2


@dataclass(frozen=True, slots=True)
class Places:
    """Rows of one partition as the rule sees them; `definitions` holds an index into `known` for each row."""

    topic: str
    partition: int
    offsets: npt.NDArray[np.int64]
    recorded_us: npt.NDArray[np.int64]
    definitions: npt.NDArray[np.intp]
    known: Sequence[str]


def route(activations: Sequence[Activation], places: Places) -> npt.NDArray[np.intp]:
    """Return for each row the index of the activation that scores it, NONE or ELSEWHERE.

    In charge of a row is the last activation that was in effect when the row was recorded and, in the topic that it
    reads, was activated before the row was first scored. It scores the row if it takes rows of that definition.
    `activations` are those of one model in their order.
    """
    chosen = np.full(len(places.offsets), NONE, np.intp)
    codes = {definition: code for code, definition in enumerate(places.known)}
    for index, activation in enumerate(activations):
        in_charge = places.recorded_us >= activation.effective_us
        if activation.topic == places.topic:
            in_charge &= places.offsets >= activation.from_offsets.get(places.partition, 0)
        ours = places.definitions == codes.get(activation.feature_definition, NONE)
        chosen[in_charge] = np.where(ours, index, ELSEWHERE)[in_charge]
    return chosen
