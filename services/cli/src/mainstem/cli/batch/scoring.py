"""A batch from its first row to its last: checked, asked in calls, written; see ADR 24."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

import pyarrow as pa
import typer

from mainstem.cli.batch.door import About, Answered, Door
from mainstem.cli.batch.inputs import Entities, Features, Inputs, Part, each_about_one, inputs_of
from mainstem.cli.batch.scored_file import ScoredFile, Scores
from mainstem.cli.batch.source import Source
from mainstem.cli.calls import CallRefused
from mainstem.cli.connection import setting
from mainstem.cli.definitions import in_force
from mainstem.cli.progress import bar
from mainstem.events.errors import MainstemError, Rejected, Unavailable
from mainstem.project.columns import Column

#: Calls that are under way at the same time: one is answered while others are written and read.
_LINES: Final = 4
#: Of calls that have a row or two, so that a turn of the door has a batch.
_LINES_OF_ONE: Final = 64
#: When a call fails the others that are under way have so long to be answered (s): what they are told is on record.
_GRACE_S: Final = 5.0


async def score(source: Source, model: str, version: str | None, entity: str | None, out: Path) -> dict[str, Any]:
    """Ask a model about all rows of a source, each about the entity in a column, write `out`, return what was done.

    Nothing is asked before every row was looked at. Raises Rejected for what the door would refuse, and as `Batch.run`
    does; there is no file then, and what was answered stays in the log.
    """
    lines = _LINES if entity is None else _LINES_OF_ONE
    async with Door.at(setting("MAINSTEM_SERVING_URL"), model, version, lines=lines) as door:
        about = await door.about()
        inputs = inputs_of(source, about.features, partial(_spine, about))
        if isinstance(inputs, Features) and source.definition not in (None, about.definition):
            found = f"the features of {source.name} are of {source.definition}"
            raise Rejected(f"{found}, {model} reads {about.feature_set} {about.definition}; compute them by that one")
        rows = _checked(source, inputs, entity)
        batch = Batch(uuid4().hex, door, source, inputs, about, entity)
        told = {"batch": batch.id, "model": model, "source": source.name, "feature_definition": about.definition}
        schema = source.schema(inputs.read)
        kept = pa.schema([schema.field(name) for name in inputs.kept(schema.names)])
        unsaid = f", unknown: {', '.join(inputs.unsaid)}" if inputs.unsaid else ""
        typer.echo(f"batch {batch.id}: {rows} rows by {inputs.by}{unsaid}", err=True)
        began = perf_counter()
        try:
            with (
                ScoredFile(out, kept, looked_up=inputs.by == Entities.by, about=told) as file,
                bar(model, rows) as done,
            ):
                await batch.run(file, done)
        except BaseException:
            typer.echo(f"batch {batch.id}: {batch.left_behind()}; no file", err=True)
            raise
    return {
        **told,
        "by": inputs.by,
        "file": str(out),
        "rows": rows,
        "unrecorded": batch.unrecorded,
        "versions": {str(number): count for number, count in sorted(batch.versions.items())},
        "calls": batch.calls,
        "again": door.again,
        "unsure": door.unsure,
        "rows_per_s": round(rows / (perf_counter() - began)),
    }


def _spine(about: About) -> Mapping[str, Column]:
    """Return the columns that describe the entities of a feature set. Raises Rejected if it is not in force."""
    for project in in_force():
        for found in project.feature_sets.values():
            if found.id == about.definition:
                compiled = found.compiled
                columns = project.sources[compiled.spine].columns
                return {name: columns[name] for name in compiled.streams[compiled.spine]}
    raise Rejected(
        f"{about.feature_set} {about.definition} is not in force, so nothing is looked up; bring its features"
    )


def _checked(source: Source, inputs: Inputs, entity: str | None) -> int:
    """Return how many rows there are. Raises Rejected, naming the row, for one that the door would refuse."""
    if entity not in (None, *source.columns):
        raise Rejected(f"{source.name} has no column {entity!r}; it has {', '.join(source.columns)}")
    rows = 0
    for stretch in source.stretches(inputs.read):
        inputs.check(stretch, rows + 1)
        if entity is not None:
            source.keys(stretch, entity)
        rows += len(stretch)
    return rows


@dataclass(slots=True)
class Batch:
    """Rows on their way through the door under one id."""

    id: str
    door: Door
    source: Source
    inputs: Inputs
    about: About
    #: The column that names whom a row is about.
    entity: str | None
    rows: int = 0
    calls: int = 0
    #: Rows that were answered without a record, as their project allows.
    unrecorded: int = 0
    #: Rows by the version that answered them.
    versions: Counter[int] = field(default_factory=Counter)

    async def run(self, file: ScoredFile, advance: Callable[[int], None]) -> None:
        """Ask about all rows and write them in their order.

        Raises CallRefused for a call that is refused, Rejected when a version takes over that reads other features, and
        Unavailable when the door is away for too long; each says which rows were not answered.
        """
        for stretch in self.source.stretches(self.inputs.read):
            await self.door.room()
            file.write(stretch, await self._ask(stretch, advance))
            self.rows += len(stretch)

    def left_behind(self) -> str:
        """Return what is to be said of the answers when the batch ends early."""
        said = [f"{sum(self.versions.values()) - self.unrecorded} rows were answered, and stand in the log"]
        if self.unrecorded:
            said.append(f"{self.unrecorded} were answered without a record")
        if self.door.unsure:
            said.append(f"those of up to {self.door.unsure} calls of which no answer came may, too")
        return "; ".join(said)

    async def _ask(self, stretch: pa.RecordBatch, advance: Callable[[int], None]) -> Scores:
        scores, parts = Scores(len(stretch)), self.inputs.parts(stretch)
        if self.entity is not None:
            parts = each_about_one(parts, self.source.keys(stretch, self.entity))
        faults: list[MainstemError] = []

        async def ask_each() -> None:
            try:
                for part in parts:
                    await self._ask_part(part, scores)
                    advance(len(part.places))
                    if faults:
                        return
            except MainstemError as fault:
                if not faults:
                    patience.reschedule(asyncio.get_running_loop().time() + _GRACE_S)
                faults.append(fault)

        with suppress(TimeoutError):
            async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as group:
                for _ in range(self.door.lines):
                    group.create_task(ask_each())
        if faults:
            raise faults[0]
        return scores

    async def _ask_part(self, part: Part, scores: Scores) -> None:
        first, last = (self.rows + int(part.places[at]) + 1 for at in (0, -1))
        try:
            answer = await self.door.infer(f"{self.id}/{first}", part.tensors, part.entity)
            await self._note(answer, len(part.places))
        except (CallRefused, Unavailable) as fault:
            raise type(fault)(f"rows {first} to {last} of {self.source.name}: {fault}") from fault
        scores.put(part.places, answer)

    async def _note(self, answer: Answered, rows: int) -> None:
        """Count an answer. Raises Rejected when the version reads other features than the rows bring."""
        known = answer.version in self.versions
        self.calls += 1
        self.versions[answer.version] += rows
        self.unrecorded += rows if answer.prediction is None else 0
        if not known and isinstance(self.inputs, Features):
            found = await self.door.about(answer.version)
            if found != self.about:
                other = f"version {answer.version} answers now, and reads {found.feature_set} {found.definition}"
                ours = f"the rows are of {self.about.feature_set} {self.about.definition}"
                raise Rejected(f"{other}; {ours}: name the version that reads them with --version")
