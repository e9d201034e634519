"""From the broker into histories, as far as a cut asks for."""

import asyncio

from mainstem.bus.identity import log_identity
from mainstem.bus.reader import LogReader
from mainstem.project.definition import ProjectDefinition
from mainstem.project.model import ModelDefinition
from mainstem.training.domain import Ranges
from mainstem.training.history.log import Dataset, History, Subject
from mainstem.training.ports import NotReached, Told

#: So long a marker is waited for that may be on its way.
_PATIENCE_S = 1.0
#: Of so many subjects the log is kept: a model's and its incumbent's, of two models in turn.
_KEPT = 4


class Histories:
    """What was read of the log, for each of the subjects that were asked for last."""

    def __init__(self, most: int = _KEPT) -> None:
        self._most = most
        #: The one asked for last comes first.
        self._kept: list[History] = []

    def of(self, subject: Subject) -> History:
        """Return the history of a subject, an empty one if none is kept; one too many, and the least recent goes."""
        found = next((history for history in self._kept if history.subject == subject), None) or History(subject)
        self._kept = [found, *(history for history in self._kept if history is not found)][: self._most]
        return found


class Reading:
    """Reads datasets from the log; what was read is kept for the next dataset of the same feature set and label."""

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._histories = Histories()

    async def __call__(
        self, definition: ProjectDefinition, model: ModelDefinition, ranges: Ranges, told: Told
    ) -> Dataset:
        """Read the log up to the end of the ranges and return what it says of them; raise as `read_until` does."""
        history = self._histories.of(Subject.of(definition, model))
        await read_until(history, self._kafka, ranges.evaluation.end_us, told)
        return await asyncio.to_thread(history.dataset, ranges)


async def read_until(history: History, kafka: str, cut_us: int, told: Told) -> None:
    """Read on until nothing before the cut is still to come.

    `told` hears of how many offsets of the log the reader has passed how many. Raises NotReached when all was read and
    the cut is not, and Unavailable when a topic is not there or the broker does not answer.
    """
    identity = await log_identity(kafka, history.topics)
    async with LogReader(kafka, history.topics) as reader:
        await reader.start()
        ends = await reader.ends()
        history.begin(identity, ends)
        await reader.start(history.offsets())
        while missing := history.missing(cut_us, ends):
            told(sum(history.offsets().values()), sum(ends.values()))
            records = await reader.poll(timeout_s=_PATIENCE_S)
            if not records:
                raise NotReached(missing)
            history.take(records)
