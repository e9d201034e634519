"""What is counted of direct calls, by model and version: by run and not by call, wherever that says the same."""

import time
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from mainstem.events.errors import MainstemError
from mainstem.serving.domain import Activation, Usage
from mainstem.serving.ports import Question
from mainstem.telemetry import metrics
from mainstem.telemetry.counts import Count

#: Weight of the last run in what a row is expected to take; one of few rows may have been interrupted.
_NEW: Final = 0.1
_FEW: Final = 64
#: What a run may take besides its rows (s); one of a single row is little else.
_RUN_S: Final = 0.25e-3


class Meter:
    """Counts what one version does."""

    def __init__(self, model: str, version: int) -> None:
        self._names = model, str(version)
        self.usage = Usage(*self._names)
        #: Calls that were answered.
        self.answered = 0
        #: What a row takes until its answer is recorded (s), as it was lately: in runs of few rows, which share what
        #: a run takes, and in longer ones; 0 before there was one.
        self.row_s = self.long_row_s = 0.0
        self._rows = metrics.BATCH_ROWS.labels(*self._names)
        self._queue = metrics.QUEUE_SECONDS.labels(*self._names)
        self._compute = metrics.COMPUTE_SECONDS.labels(*self._names)
        self._recorded = metrics.ANSWERS_RECORDED.labels(model)
        self._dropped = metrics.ANSWERS_DROPPED.labels(model)
        self._channels: dict[str, tuple[Count, Count]] = {}
        #: How long the first call of the last run waited, and how long that took (ns).
        self._last = 0, 0

    def expected_s(self, rows: int) -> float:
        """Return how long a call of so many rows takes (s)."""
        if rows <= _FEW:
            return rows * self.row_s
        return rows * (self.long_row_s or max(0.0, self.row_s - _RUN_S))

    def learn(self, rows: int, spent_s: float, *, long: bool) -> None:
        """Learn from a run, or the beginning of a long one, what a row takes: of many that it takes longer, at once."""
        row_s = spent_s / rows
        if not long:
            self.row_s += _NEW * (row_s - self.row_s)
        else:
            self.long_row_s += (1.0 if row_s > self.long_row_s else _NEW) * (row_s - self.long_row_s)

    def ran(self, rows: int, waited_s: float, spent_ns: int) -> None:
        """Count a run, for which the first of its calls waited so long; without rows the model was not run."""
        self._last = 0, 0
        if rows:
            self._last = int(waited_s * 1e9), spent_ns
            self.usage.ran(rows, spent_ns)
            self._rows.observe(rows)
            self._queue.observe(waited_s)
            self._compute.observe(spent_ns / 1e9)

    def ended(self, given: int, refused: int) -> None:
        """Count for the statistics calls that the last run answered, and the others that were asked with them."""
        self.usage.refused += refused
        if given:
            self.usage.gave(given, *self._last, time.time_ns() // 1_000_000)

    def recorded(self, rows: int) -> None:
        """Count rows that were recorded."""
        self._recorded.inc(rows)

    def dropped(self, rows: int) -> None:
        """Count rows that were answered without a record."""
        self._dropped.inc(rows)

    def gave(self, questions: Sequence[Question]) -> None:
        """Count answers, by channel."""
        self.answered += len(questions)
        for channel in {question.channel for question in questions}:
            rows = [len(question.rows) for question in questions if question.channel == channel]
            known = self._channels.get(channel)
            if known is None:
                names = (*self._names, channel)
                known = self._channels[channel] = metrics.CALLS.labels(*names), metrics.PREDICTIONS.labels(*names)
            calls, predictions = known
            calls.inc(len(rows))
            predictions.inc(sum(rows))


class Meters:
    """The meters of all versions that were asked for."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, int], Meter] = {}
        #: A row of no version is expected to take longer (s).
        self.most_row_s = 0.0

    def of(self, live: Activation) -> Meter:
        """Return what counts for a version."""
        key = live.model, live.version
        known = self._of.get(key)
        if known is None:
            known = self._of[key] = Meter(*key)
        return known

    def took(self, meter: Meter, rows: int, spent_s: float, *, long: bool = False) -> None:
        """Learn what rows of a version take from a run of so many, or from as many of a `long` one; of none nothing."""
        if not rows:
            return
        meter.learn(rows, spent_s, long=long or rows > _FEW)
        self.most_row_s = max(self.most_row_s, meter.row_s, meter.long_row_s)

    def hope(self, untried: Iterable[Meter]) -> None:
        """Expect versions to have become faster."""
        for meter in untried:
            meter.row_s /= 2
            meter.long_row_s /= 2
        self.most_row_s = max((max(meter.row_s, meter.long_row_s) for meter in self._of.values()), default=0.0)

    def usage(self) -> list[Usage]:
        """Return what was done for each version that was asked for."""
        return [meter.usage for _, meter in sorted(self._of.items())]


def tell_ages(ages: Iterable[tuple[str, str, float | None]]) -> None:
    """Tell how old the newest record of a source is, by model, and of no others any more."""
    metrics.FEATURE_AGE.clear()
    for model, source, age in ages:
        metrics.FEATURE_AGE.labels(model, source).set(inf if age is None else age)


def tell_away(away: Iterable[tuple[str, bool]]) -> None:
    """Tell which models are not called by entity now that may be, and of no others any more."""
    metrics.LOOKUPS_AWAY.clear()
    for model, refused in away:
        metrics.LOOKUPS_AWAY.labels(model).set(refused)


def count_errors(model: str, version: str, ended: Iterable[tuple[Question, object]]) -> None:
    """Count those calls that ended in an error; "" for a model or version that there is not."""
    for question, fault in ended:
        if isinstance(fault, MainstemError):
            metrics.CALL_ERRORS.labels(model, version, question.channel, type(fault).__name__).inc(1)


def count_refused(channel: str, fault: MainstemError) -> None:
    """Count a call that reached no version: it cannot be read, or comes too late."""
    metrics.CALL_ERRORS.labels("", "", channel, type(fault).__name__).inc(1)
