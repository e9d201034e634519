"""A histogram for paths that are taken a hundred thousand times a second: a tenth of the client library's cost."""

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from time import perf_counter

from prometheus_client import CollectorRegistry
from prometheus_client.core import Exemplar, HistogramMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from mainstem.telemetry.told import Example, Labels, Timed

_SAMPLED = b"-01"


class Timings(Collector):
    """Seconds, or something else, by some labels, in buckets of upper bounds; each series is observed by one thread."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self.name = name
        self._about = name, documentation
        self._labels = labels
        self._bounds = bounds
        self._series: dict[Labels, Series] = {}
        registry.register(self)

    def labels(self, *values: str) -> "Series":
        """Return what is observed under labels."""
        known = self._series.get(values)
        if known is None:
            known = self._series[values] = Series(self._bounds)
        return known

    def told(self) -> dict[Labels, Timed]:
        """Return all that was observed."""
        return {values: series.told() for values, series in list(self._series.items())}

    def family(self, told: Mapping[Labels, Timed]) -> HistogramMetricFamily:
        """Return what was told, here or elsewhere, as the client library has it."""
        family = HistogramMetricFamily(*self._about, labels=self._labels)
        names = [*(str(bound) for bound in self._bounds), "+Inf"]
        for values, timed in told.items():
            examples = {bucket: _exemplar(example) for bucket, example in timed.examples.items()}
            buckets = enumerate(zip(names, accumulate(timed.counts), strict=True))
            family.add_metric(
                values, [(*counted, examples[at]) if at in examples else counted for at, counted in buckets], timed.sum
            )
        return family

    @override
    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield all that was observed."""
        yield self.family(self.told())


def _exemplar(example: Example) -> Exemplar:
    return Exemplar({"trace_id": example.trace}, example.value, example.at)


class Series:
    """What was observed under some labels: how often in each bucket, the sum, and for each bucket the last trace."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.examples: dict[int, Example] = {}
        self.sum = 0.0

    def observe(self, value: float, traceparent: bytes | None = None) -> None:
        """Count one; if it has a trace that is sampled, this is an example of its bucket."""
        bucket = bisect_left(self._bounds, value)
        self.counts[bucket] += 1
        self.sum += value
        if traceparent is not None and traceparent.endswith(_SAMPLED):
            self.examples[bucket] = Example(traceparent[3:35].decode(), value, time.time())

    def told(self) -> Timed:
        """Return what was observed until now."""
        return Timed(self.counts.copy(), self.sum, self.examples.copy())

    @contextmanager
    def time(self) -> Iterator[None]:
        """Count one: the seconds of the block, however it ends."""
        began = perf_counter()
        try:
            yield
        finally:
            self.observe(perf_counter() - began)
