"""The rows that a version's evidence quotes with their scores: a model that is loaded must give the same again."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from mainstem.events.errors import NO_DOCUMENT, Rejected
from mainstem.serving.engine import RUN_FAULTS, Model

#: Scores are float64 sums that another processor may add up otherwise, and no decision hangs on.
TOLERANCE: Final = 1e-9


class Unlike(Rejected):
    """A model gives other scores than its evidence says, or the evidence cannot be read."""


class _Reference(msgspec.Struct):
    rows: Sequence[Sequence[float | None]]
    scores: Sequence[float]


class _Profile(msgspec.Struct):
    reference: _Reference | None = None


_decode = msgspec.json.Decoder(_Profile).decode


def check(model: Model, profile: bytes) -> None:
    """Score the reference rows of a profile; one that an earlier release made has none. Raises Unlike."""
    try:
        reference = _decode(profile).reference
    except NO_DOCUMENT as fault:
        raise Unlike(f"the reference profile cannot be read: {fault}; train the version anew") from fault
    if reference is None or not reference.rows:
        return
    rows = np.array(reference.rows, np.float64)
    if rows.shape != (len(reference.scores), model.width):
        raise Unlike(f"the reference rows have shape {list(rows.shape)}, not [{len(reference.scores)}, {model.width}]")
    try:
        found = model.probabilities(rows)[:, 1]
    except RUN_FAULTS as fault:
        raise Unlike(
            f"the model fails on the reference rows that were judged: {fault}; train the version anew"
        ) from fault
    apart = np.abs(found - np.array(reference.scores))
    if not (apart <= TOLERANCE).all():
        row = int(np.argmax(apart))
        said = f"row {row} scores {found[row]!r}, its evidence says {reference.scores[row]!r}"
        raise Unlike(f"the model is not what was judged: {said}; train the version anew, or mend the installation")
