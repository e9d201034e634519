"""Many answers at once: each explained, or run again, and what they have in common."""

import gc
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mainstem.cli.evidence.archive import Archive
from mainstem.cli.evidence.explaining import explain
from mainstem.cli.evidence.replaying import Replay, Replayed
from mainstem.cli.evidence.sampling import sample
from mainstem.cli.evidence.story import FIELDS, Statement, Story
from mainstem.cli.progress import bar


@dataclass(slots=True)
class Explained:
    """How the stories of a sample turned out."""

    stories: int = 0
    #: How often a field could not be told, by field and reason without its figures.
    gaps: Counter[str] = field(default_factory=Counter)
    #: Fields that say nothing and give no reason, and what contradicts, behind the prediction.
    empty: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    #: Of the processor: where others use the machine, this is what to look at.
    cpu_seconds: list[float] = field(default_factory=list)

    def take(self, story: Story, seconds: float, cpu_seconds: float) -> None:
        """Count a story, and what it took to tell."""
        self.stories += 1
        self.seconds.append(seconds)
        self.cpu_seconds.append(cpu_seconds)
        self.gaps.update(name for name in FIELDS if name not in story.statements)
        self.empty += [f"{story.prediction}: {name}" for name in empty_fields(story)]
        self.faults += [f"{story.prediction}: {fault}" for fault in story.faults]

    @property
    def holds(self) -> bool:
        """Tell whether every field of every story says something or why it cannot, and nothing contradicts."""
        return not self.empty and not self.faults


def milliseconds(seconds: Sequence[float], share: float) -> float:
    """Return within how many ms this share of some times lies."""
    return round(1_000 * sorted(seconds)[min(int(share * len(seconds)), len(seconds) - 1)], 2)


def empty_fields(story: Story) -> list[str]:
    """Return the fields that neither say anything nor are lacking for a reason."""
    told = {name for name, statements in story.statements.items() if any(map(_says_something, statements))}
    return [name for name in FIELDS if name not in told and not story.gaps.get(name)]


def _says_something(statement: Statement) -> bool:
    return any(value not in (None, "", [], {}) for value in (*statement.says.values(), *statement.derived.values()))


async def explain_many(archive: Archive, count: int, seed: int) -> Explained:
    """Explain answers that are chosen by chance; the first is explained twice and not timed, for it makes indexes."""
    answers = await sample(archive, count, seed)
    await explain(archive, answers[0].envelope.id)
    explained = Explained()
    gc.freeze()  # what was read once lives to the end: looking through it for cycles would take a third of the time
    with bar("explaining", len(answers)) as advance:
        for answer in answers:
            began, cpu = time.perf_counter(), time.process_time()
            story = await explain(archive, answer.envelope.id)
            story.document()
            explained.take(story, time.perf_counter() - began, time.process_time() - cpu)
            advance(1)
    return explained


async def replay_many(archive: Archive, replay: Replay, count: int, seed: int) -> Sequence[Replayed]:
    """Run answers again that are chosen by chance."""
    answers = await sample(archive, count, seed)
    replayed: list[Replayed] = []
    with bar("replaying", len(answers)) as advance:
        for answer in answers:
            replayed.append(replay.run(answer))
            advance(1)
    return replayed
