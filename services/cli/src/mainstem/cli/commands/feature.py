"""`mainstem feature list | show | backfill | diff`: feature sets, computed anew from the log by the stream's fold."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from mainstem.bus.reader import LogReader
from mainstem.cli.connection import setting
from mainstem.cli.definitions import in_force, owner
from mainstem.cli.expressions import duration, expressions
from mainstem.cli.output import Format, show, tell
from mainstem.cli.progress import bar
from mainstem.cli.recomputation import Comparison, Published, Recomputed, compare, recompute
from mainstem.events.features import RowComputed
from mainstem.events.instants import parse
from mainstem.features.engine import Fold
from mainstem.project import ProjectDefinition

app = typer.Typer(help="Feature sets: look, compute anew, compare with what was published.", no_args_is_help=True)

_FROM = "Rows recorded from this time on, RFC 3339; from the first when left out."
_TO = "Rows recorded before this time, RFC 3339; to the last when left out."
_BEGINNING, _END = -(2**63), 2**63 - 1


def _instant(text: str) -> int:
    try:
        return parse(text)
    except ValueError as fault:
        raise typer.BadParameter(f"{fault}; write it like 2013-05-01T00:00:00Z") from fault


Name = Annotated[str, typer.Option("--feature-set", help="Name of the feature set.")]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]


@app.command("list")
def list_(output: Output = Format.TABLE) -> None:
    """List the feature sets of all projects in force."""
    show([_line(definition, name) for definition in in_force() for name in definition.feature_sets], output)


@app.command("show")
def show_(
    feature_set: Annotated[str, typer.Argument(help="Name of the feature set.")], output: Output = Format.TABLE
) -> None:
    """Show a feature set: what each feature is computed from."""
    definition = owner(feature_set)
    compiled = definition.feature_sets[feature_set].compiled
    facts = _line(definition, feature_set) | {"lateness": duration(compiled.definition.lateness)}
    features = [{"feature": name, "expression": text} for name, text in expressions(compiled).items()]
    if output is not Format.TABLE:
        show([facts | {"features": features}], output)
        return
    tell(facts)
    typer.echo()
    show(features, output)


@app.command()
def backfill(
    feature_set: Name,
    out: Annotated[Path, typer.Option(help="Parquet file to write.", dir_okay=False)],
    from_: Annotated[int | None, typer.Option("--from", parser=_instant, metavar="TIME", help=_FROM)] = None,
    to: Annotated[int | None, typer.Option("--to", parser=_instant, metavar="TIME", help=_TO)] = None,
    output: Output = Format.TABLE,
) -> None:
    """Compute the rows of a feature set anew from the whole log and write those recorded in a span of time."""
    definition = owner(feature_set)
    _note_live(definition, feature_set)
    span = (_BEGINNING if from_ is None else from_, _END if to is None else to)
    show([asyncio.run(_backfill(definition, feature_set, span, out))], output)


@app.command()
def diff(feature_set: Name, output: Output = Format.TABLE) -> None:
    """Compare the published rows with rows computed anew from the log, bit by bit; exit code 1 when one differs."""
    definition = owner(feature_set)
    _note_live(definition, feature_set)
    compared = asyncio.run(_diff(definition, feature_set))
    facts = _facts(compared, definition, feature_set)
    if output is not Format.TABLE:
        show([facts], output)
    elif compared.first is None:
        tell(facts)
    else:
        at = compared.first
        where = f"{at.feature} of {at.spine_id}, {_topic(feature_set)}/{at.partition}/{at.offset}"
        tell(facts | {"first_difference": f"{where}: published {at.published!r}, recomputed {at.recomputed!r}"})
    if not compared.equal:
        raise typer.Exit(1)


async def _backfill(
    definition: ProjectDefinition, feature_set: str, span: tuple[int, int], out: Path
) -> dict[str, object]:
    from mainstem.cli.row_files import RowFile, recorded_within  # noqa: PLC0415  (slow to import)

    compiled, kafka = definition.feature_sets[feature_set].compiled, setting("MAINSTEM_KAFKA")
    fold = Fold(compiled, definition.sources)
    began, read = perf_counter(), 0
    with bar(f"backfill {feature_set}", await _size(kafka, fold.topics)) as advance, RowFile(out, compiled) as file:
        async for count, stretch in recompute(kafka, fold):
            file.write(recorded_within(stretch, *span))
            advance(count)
            read += count
    return {
        "feature_set": feature_set,
        "id": compiled.id,
        "file": str(out),
        "rows": file.rows,
        "records": read,
        "records_per_s": round(read / (perf_counter() - began)),
    }


async def _diff(definition: ProjectDefinition, feature_set: str) -> Comparison:
    """Read the published rows first: whatever led to them is in the log when it is read afterwards."""
    compiled, kafka = definition.feature_sets[feature_set].compiled, setting("MAINSTEM_KAFKA")
    fold = Fold(compiled, definition.sources)
    published, recomputed = Published(compiled.id), Recomputed()
    async with LogReader(kafka, [_topic(feature_set)]) as reader:
        await reader.start()
        async for records in reader.to_end():
            published.take(records)
    with bar(f"recompute {feature_set}", await _size(kafka, fold.topics)) as advance:
        async for count, stretch in recompute(kafka, fold):
            recomputed.take(stretch)
            advance(count)
    return compare(published, recomputed, compiled.names)


async def _size(kafka: str, topics: Sequence[str]) -> int:
    async with LogReader(kafka, topics) as reader:
        await reader.start()
        return sum((await reader.ends()).values())


def _topic(feature_set: str) -> str:
    return RowComputed.TOPIC.format(feature_set=feature_set)


def _line(definition: ProjectDefinition, name: str) -> dict[str, object]:
    found = definition.feature_sets[name]
    return {
        "feature_set": name,
        "project": definition.charter.name,
        "spine": found.compiled.spine,
        "features": len(found.compiled.names),
        "id": found.id,
    }


def _facts(compared: Comparison, definition: ProjectDefinition, feature_set: str) -> dict[str, object]:
    return {
        "feature_set": feature_set,
        "id": definition.feature_sets[feature_set].id,
        "rows": compared.rows,
        "cells": compared.cells,
        "differing": compared.differing,
        "unknown": len(compared.unknown),
        "first_unknown": next(iter(compared.unknown), None),
        "missing": len(compared.missing),
        "first_missing": next(iter(compared.missing), None),
        "first_difference": None if compared.first is None else compared.first._asdict(),
    }


def _note_live(definition: ProjectDefinition, feature_set: str) -> None:
    streams = definition.feature_sets[feature_set].compiled.streams
    live = [name for name in streams if not definition.sources[name].replay]
    if live:
        order = "their records are taken in the order of arrival, which need not be how the stream met them"
        typer.echo(f"note: {', '.join(live)} announce no progress: {order}", err=True)
