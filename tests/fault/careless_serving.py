"""Serving that minds positions alone, for the control: after a takeover the old version goes on in its own set."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mainstem.runtime import run
from mainstem.serving import app, scoring
from mainstem.serving.domain import Activation
from mainstem.serving.rule import NONE, Places


def careless_route(activations: Sequence[Activation], places: Places) -> npt.NDArray[np.intp]:
    """Return for each row the last activation that takes rows of its set, whatever other sets have in charge."""
    chosen = np.full(len(places.offsets), NONE, np.intp)
    for index, activation in enumerate(activations):
        ours = [places.known[code] == activation.feature_definition for code in places.definitions]
        chosen[(places.recorded_us >= activation.effective_us) & ours] = index
    return chosen


if __name__ == "__main__":
    scoring.route = careless_route  # type: ignore[attr-defined]
    run(app.main)
