"""The check as a task beside the fold: it reads in consumer groups of its own and gives way all the time."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from mainstem.bus import Subscription
from mainstem.events.envelope import Event
from mainstem.events.features import Difference, VectorsChecked
from mainstem.events.record import Record
from mainstem.features.check.checker import Checker, Subject
from mainstem.features.check.log import Choice
from mainstem.features.ports import Checks, Turns
from mainstem.project.definition import ProjectDefinition
from mainstem.runtime import Resources, steadily
from mainstem.telemetry import logger, metrics

#: Longest stretch of work before others have their turn, and how long they have it at least: half of the time.
_SLICE_S = 0.005
#: Accepted records that may wait for the journal; the fold may be far behind.
MOST_WAITING = 20_000
#: A reader that takes nothing for minutes is no member of its group any more: then some more records have to wait.
_PATIENCE_S = 60.0
#: So often a process says that it checks, or asks whether another still does.
_CLAIM_EVERY_S = 2.0

_log = logger(__name__)


def subject(definition: ProjectDefinition, label: str, fraction: float) -> Subject | None:
    """Return what is to be checked of a feature set; None for a fraction of 0."""
    if fraction == 0:
        return None
    feature_set = definition.feature_sets[label]
    contracts = [definition.sources[name] for name in feature_set.compiled.streams]
    ahead_us = max(contract.ahead for contract in contracts)
    return Subject(label, feature_set.id, feature_set.spec, contracts[0].partitions, Choice(fraction), ahead_us)


async def check_rows(
    resources: Resources, checks: Turns, definition: ProjectDefinition, label: str, fraction: float
) -> None:
    """Check the rows of one feature set for ever, from the beginning of the log; return at once if there is nothing to.

    Of several processes of the service one does it, since it needs all partitions and a group shares them out. Another
    takes over when that one has not been heard of for ten seconds.
    """
    of = subject(definition, label, fraction)
    if of is None:
        _log.info("%s is not checked by this process: its fraction is 0", label, extra={"action": "check_off"})
        return
    turn = _Turn(checks, of, resources.settings.instance)
    while True:
        await turn.comes()
        async with asyncio.TaskGroup() as tasks:
            checking = tasks.create_task(_check(resources, checks, of))
            await turn.goes()
            checking.cancel()


class _Turn:
    """A process among those that may check a feature set; tells in the log whose turn it is, each time that changes."""

    def __init__(self, checks: Turns, of: Subject, instance: str) -> None:
        self._checks, self._of, self._instance = checks, of, instance
        self._told: str | None = None

    async def comes(self) -> None:
        """Return when it is the turn of this process."""
        while not await self._is_mine():  # noqa: ASYNC110  # others say so in the database
            await asyncio.sleep(_CLAIM_EVERY_S)

    async def goes(self) -> None:
        """Return when it is the turn of another process; while this one says that it goes on, it is not."""
        while await self._is_mine():  # noqa: ASYNC110  # others say so in the database
            await asyncio.sleep(_CLAIM_EVERY_S)

    async def _is_mine(self) -> bool:
        whose = await steadily(lambda: self._checks.turn(self._of.definition, self._instance))
        if whose != self._told:
            self._told = whose
            which = "this process" if whose == self._instance else "another process"
            about = {"action": "check_turn", "set": self._of.label, "instance": whose}
            _log.info("%s is checked by instance %s, %s", self._of.label, whose, which, extra=about)
        return whose == self._instance


async def _check(resources: Resources, checks: Checks, of: Subject) -> None:
    label = of.label
    checker = Checker(of, await steadily(lambda: checks.last_check(of.definition)))
    checking = Checking(checker, checks)

    async def positions() -> Mapping[tuple[str, int], int]:
        return checker.log.positions

    group = f"features-check-{label}"
    told = resources.bus.subscribe(group, checker.log.told_topics, positions)
    accepted = resources.bus.subscribe(f"{group}-input", checker.log.accepted_topics, positions)
    sample = f"check {label}"
    resources.health.every_tick(sample, lambda: checking.show(accepted))
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(told.run(checking.take))
            tasks.create_task(accepted.run(checking.take_input))
            tasks.create_task(checking.work())
    finally:
        resources.health.forget(sample)


class Checking:
    """Runs a checker: hands it records, stores what it tells, and shows how far it is.

    No more than about `most_waiting` accepted records wait for the journal. `clock` tells seconds.
    """

    def __init__(
        self,
        checker: Checker,
        checks: Checks,
        most_waiting: int = MOST_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checker = checker
        self._checks = checks
        self._most_waiting = most_waiting
        self._clock = clock
        self._label = checker.subject.label
        self._rows = metrics.ROWS_CHECKED.labels(self._label)
        self._differing = metrics.CELLS_DIFFERING.labels(self._label)
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._told = checker.since.number + 1
        #: Up to where rows were checked and everything about them told.
        self._reached_us: int | None = None

    async def take(self, records: Sequence[Record]) -> None:
        """Take rows and entries of the journal."""
        self._checker.take(records)
        self._news.set()

    async def take_input(self, records: Sequence[Record]) -> None:
        """Take accepted records; return when there is room for more, or when the group would lose patience."""
        await self.take(records)
        self._judge_room()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._room.wait()

    async def work(self) -> None:
        """Do the work that records make possible, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self.advance()

    async def advance(self) -> None:
        """Do the work that is possible now, a few milliseconds at a time."""
        began = self._clock()
        for event in self._checker.work():
            if event is not None:
                await self._tell(event)
            self._reached_us = self._checker.reached_us
            if self._clock() - began > _SLICE_S:
                self._judge_room()
                await asyncio.sleep(_SLICE_S)
                began = self._clock()
        self._judge_room()

    def _judge_room(self) -> None:
        """Let accepted records in while few wait, or while the next entry cannot be applied without more."""
        if len(self._checker.log) < self._most_waiting or self._checker.log.starves():
            self._room.set()
        else:
            self._room.clear()

    async def _tell(self, event: Event) -> None:
        await steadily(lambda: self._checks.add_check(event))
        self._told += 1
        if isinstance(event.fact, VectorsChecked):
            # What was told is not compared again; what was not is, by who begins anew.
            self._rows.inc(event.fact.rows)
            self._differing.inc(event.fact.differing)
            self._complain(event.fact.first_difference)

    def _complain(self, first: Difference | None) -> None:
        if first is not None:
            record, feature = first.spine_id or "no single record", first.feature or "the row"
            _log.error("%s of %s: %s", feature, record, first.about, extra={"action": "mismatch", "set": self._label})

    def show(self, accepted: Subscription) -> None:
        """Bring the metrics up to date; `accepted` knows how much of its input lies ahead."""
        metrics.CHECK_BEHIND.labels(self._label).set(len(self._checker.log) + sum(accepted.lag().values()))
        metrics.CHECKS_TOLD.labels(self._label).set(self._told)
        if self._reached_us is not None:
            metrics.CHECK_TIME.labels(self._label).set(self._reached_us / 1e6)
