"""Compiling the kernel before it is needed: half a minute on a busy machine, once; later processes find it cached."""

import numpy as np

from mainstem.feature_engine.batch import Batch, Values
from mainstem.feature_engine.column_types import boolean, fixed, time
from mainstem.feature_engine.engine import Engine
from mainstem.feature_engine.spec import feature_set, stream


def prepare() -> None:
    """Run everything that is compiled once, on one event."""
    event = stream("event", key="key", columns={"x": fixed("1", lo=0, hi=1), "at": time(), "on": boolean()})
    by = event.by("key")
    features = {"x": event.x, "on": event.on, "hour": event.at.local("UTC").hour, "different": by.distinct("key", "1h")}
    engine = Engine(feature_set("prepare", spine=event, lateness="0s")(type("Prepare", (), features)).compile())
    columns: dict[str, Values] = {"key": ["a"], "x": [1.0], "at": np.zeros(1, np.int64), "on": np.ones(1, np.int64)}
    times = np.zeros(1, np.int64)
    engine.process(Batch(np.zeros(1, np.int8), times, times, {"event": columns}))
    engine.read(columns, times)
    engine.restore(engine.snapshot())
