"""A histogram for paths that are taken a hundred thousand times a second: a tenth of the client library's cost."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from time import perf_counter

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override


class Timings(Collector):
    """Seconds by one label, in buckets of upper bounds; each label is observed by one thread."""

    def __init__(
        self, name: str, documentation: str, label: str, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._about = name, documentation
        self._label = label
        self._bounds = bounds
        self._series: dict[str, Series] = {}
        registry.register(self)

    def labels(self, value: str) -> "Series":
        """Return what is observed under a label."""
        known = self._series.get(value)
        if known is None:
            known = self._series[value] = Series(self._bounds)
        return known

    @override
    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield all that was observed."""
        family = HistogramMetricFamily(*self._about, labels=[self._label])
        names = [*(str(bound) for bound in self._bounds), "+Inf"]
        for value, series in self._series.items():
            counts = accumulate(series.counts)
            family.add_metric([value], list(zip(names, counts, strict=True)), series.sum)
        yield family


class Series:
    """What was observed under one label: how often in each bucket, and the sum of seconds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    @contextmanager
    def time(self) -> Iterator[None]:
        """Count one: the block, however it ends."""
        began = perf_counter()
        try:
            yield
        finally:
            self.observe(perf_counter() - began)
