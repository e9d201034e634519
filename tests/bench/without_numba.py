"""The engine as plain Python, as it runs where numba is not installed, against a scan of what is kept.

`COMMAND` runs it, in a process where numba cannot be imported; it prints what an event took either, as JSON.
"""

import json
import sys

import numpy as np
from tests.bench.agreement import agree
from tests.bench.flights_log import cut, flights
from tests.bench.goals import interleaved
from tests.bench.happened import happened
from tests.bench.scan import scan

from mainstem.feature_engine import Engine

EVENTS = 5_000
COMMAND = (
    sys.executable,
    "-c",
    "import sys; sys.modules['numba'] = None; from tests.bench.without_numba import main; main()",
)


def main() -> None:
    """Measure and print."""
    compiled, year = flights()
    log = cut(year, 0, EVENTS)
    events = happened(log)
    agree(compiled, log, dict(zip(compiled.names, np.array(scan(events)).T, strict=True)))
    works = {"ours": (lambda: Engine(compiled).process(log), EVENTS), "scan": (lambda: scan(events), EVENTS)}
    print(json.dumps(interleaved(works)))
