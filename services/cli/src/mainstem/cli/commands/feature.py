"""`mainstem feature list | show | parked | trace | read | backfill | diff`: feature sets and what values rest on."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any
from urllib.parse import quote

import typer

from mainstem.bus.reader import LogReader, read_ends
from mainstem.cli.calls import ask, get
from mainstem.cli.connection import setting
from mainstem.cli.definitions import chosen, in_force, owner, with_feature
from mainstem.cli.drafts import check_sources
from mainstem.cli.entities import entities_in, entity_of
from mainstem.cli.expressions import duration, expressions, target
from mainstem.cli.labels import Labels, declared_labels, worded
from mainstem.cli.local.errors import LocalError
from mainstem.cli.output import Format, show, tell
from mainstem.cli.progress import bar
from mainstem.cli.recomputation import Comparison, Published, Recomputation, Recomputed, compare
from mainstem.events.errors import Unavailable
from mainstem.events.features import RowComputed
from mainstem.events.instants import parse, render
from mainstem.fold.fold import Fold
from mainstem.project import Label, ProjectDefinition, load_folder

app = typer.Typer(
    help="Feature sets: look, read, trace, compute anew, compare with what was published.", no_args_is_help=True
)

_FROM = "Rows recorded from this time on, RFC 3339; from the first when left out."
_TO = "Rows recorded before this time, RFC 3339; to the last when left out."
#: The state of a set that stands still.
_STOPPED = "stopped"
_BEGINNING, _END = -(2**63), 2**63 - 1


def _instant(text: str) -> int:
    try:
        return parse(text)
    except ValueError as fault:
        raise typer.BadParameter(f"{fault}; write it like 2013-05-01T00:00:00Z") from fault


Named = Annotated[str, typer.Argument(help="Label of the feature set: its name, from version 2 on `name.v2`.")]
Name = Annotated[str, typer.Option("--feature-set", help="Label of the feature set.")]
Chosen = Annotated[str | None, typer.Option("--feature-set", help="Label of the feature set, where there are several.")]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]


@app.command("list")
def list_(output: Output = Format.TABLE) -> None:
    """List the feature sets of all projects in force, with how far each is and how many records came too late.

    Those `held` were read and wait for others that may come before them; `feature show` says from where.
    A set that is `stopped` stands still: it is listed as it was then, and the reason stands below.
    """
    standing, rows = _standing(), []
    for definition in in_force():
        for label, found in definition.feature_sets.items():
            here = standing.get(found.id, {})
            far = {name: here.get(name) for name in ("rows", "state")}
            far |= {"reached": (here.get("position") or {}).get("reached"), "held": here.get("held")}
            late = None if here.get("late") is None else sum(here["late"].values())
            rows.append(_line(definition, label) | far | {"late": late, "reason": here.get("reason")})
    if output is not Format.TABLE:
        show(rows, output)
        return
    show([{name: value for name, value in row.items() if name != "reason"} for row in rows], output)
    for row in rows:
        if row["state"] == _STOPPED:
            stood = "it is listed as it was when it stopped"
            typer.echo(f"{row['feature_set']} stands still, {stood}: {row['reason']}", err=True)


@app.command("show")
def show_(
    feature_set: Named,
    feature: Annotated[str | None, typer.Argument(help="A feature: show where it comes from and who reads it.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show a feature set, what each feature is computed from; or one feature, from its sources to its readers.

    Of a set: how far it is, the records that were `late` by stream, the values that lay `out_of_range` by column, and
    where the log began if its first records were gone by then, `begins_at` by partition. Records `held` were read and
    wait for the next record or progress marker of the partitions that it `waits_for`. `next` is the offset that it
    applies next of each partition. Of a set that is `stopped` all that is as it was when it came to stand still.
    """
    definition = owner(feature_set)
    if feature is not None:
        _show_lineage(definition, feature_set, feature, output)
        return
    compiled = definition.feature_sets[feature_set].compiled
    facts = _line(definition, feature_set)
    facts |= {"lateness": duration(compiled.definition.lateness), "target": target(compiled)}
    here = _standing().get(compiled.id, {})
    facts |= {name: here.get(name) for name in ("state", "reason", "rows")}
    position = here.get("position") or {}
    facts |= {name: position.get(name) for name in ("applied", "reached")} | {"next": position.get("partitions")}
    facts |= {name: here.get(name) for name in ("held", "waits_for", "late", "out_of_range", "begins_at")}
    features = [{"feature": name, "expression": text} for name, text in expressions(compiled).items()]
    if output is not Format.TABLE:
        show([facts | {"features": features}], output)
        return
    known = {name: value for name, value in facts.items() if value is not None}
    if here.get("state") == _STOPPED:
        known["state"] = "stopped: it stands still, and what follows is as it was then"
    if "waits_for" in known:
        known["waits_for"] = ", ".join(here["waits_for"]) or "nothing"
    tell({name: _counts(value) if isinstance(value, dict) else value for name, value in known.items()})
    typer.echo()
    show(features, output)


@app.command()
def parked(
    feature_set: Named,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="So many at most.")] = 100,
    output: Output = Format.TABLE,
) -> None:
    """List the records that a feature set could not apply, or that came too late for it, newest first."""
    path = f"/v1/feature-sets/{quote(feature_set, safe='')}/parked?limit={limit}"
    show(get("features", path)["parked"], output)


@app.command()
def trace(
    spine_id: Annotated[
        str, typer.Argument(help="Id of the spine record, its own or its source's; the beginning is enough.")
    ],
    feature: Annotated[str, typer.Argument(help="Name of the feature.")],
    feature_set: Chosen = None,
    output: Output = Format.TABLE,
) -> None:
    """List the records behind one published value; exit code 1 when the log does not give the value again."""
    definition, label = with_feature(feature, feature_set)
    facts = asyncio.run(_trace(definition, label, spine_id, feature))
    if output is not Format.TABLE:
        show([facts], output)
    else:
        values = {name: "null" if facts[name] is None else facts[name] for name in ("served", "recomputed")}
        tell({name: value for name, value in facts.items() if name != "records"} | values)
        typer.echo()
        show(facts["records"], output)
    if not facts["equal"]:
        raise typer.Exit(1)


@app.command()
def read(
    feature_set: Named,
    entity: Annotated[
        list[str] | None, typer.Option(help="What is known of the entity, `column=value`; once a column.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="File of entities, a JSON object a line.", exists=True, dir_okay=False)
    ] = None,
    at: Annotated[
        int | None, typer.Option(parser=_instant, metavar="TIME", help="Moment, RFC 3339; the newest when left out.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Read the values of entities at a moment, without an event, as the stream would compute them now."""
    if (entity is None) == (file is None):
        raise typer.BadParameter("say one entity with --entity, once a column, or several with --file")
    compiled = owner(feature_set).feature_sets[feature_set].compiled
    entities = entities_in(file) if file else [entity_of(entity or [], compiled.streams[compiled.spine])]
    body = {"at": None if at is None else render(at), "entities": entities}
    answer = ask("features", f"/v1/feature-sets/{quote(feature_set, safe='')}/read", body)
    if output is not Format.TABLE:
        show([answer | {"entities": entities}], output)
        return
    facts = {name: answer[name] for name in ("feature_set", "definition", "at")}
    tell(facts | {"applied": answer["position"]["applied"]})
    typer.echo()
    show(_values(answer, entities), output)


@app.command()
def backfill(
    out: Annotated[Path, typer.Option(help="Parquet file to write.", dir_okay=False)],
    feature_set: Chosen = None,
    project: Annotated[
        Path | None,
        typer.Option(help="Folder of a project that need not be in force, over sources that are.", file_okay=False),
    ] = None,
    from_: Annotated[int | None, typer.Option("--from", parser=_instant, metavar="TIME", help=_FROM)] = None,
    to: Annotated[int | None, typer.Option("--to", parser=_instant, metavar="TIME", help=_TO)] = None,
    output: Output = Format.TABLE,
) -> None:
    """Compute the rows of a feature set anew from the whole log and write those recorded in a span of time.

    Beside the features a row has its position in the applied order and, where the set or its models declare one, its
    label: null if none became known within the wait after the event.
    """
    span = (_BEGINNING if from_ is None else from_, _END if to is None else to)
    if span[0] >= span[1]:
        raise typer.BadParameter("--from is not before --to, so there are no rows between them; exchange the two")
    definition, label = chosen(in_force() if project is None else [load_folder(project)], feature_set)
    rule = _rule(definition, label)
    if project is not None:
        sources = [*definition.feature_sets[label].compiled.streams, *([] if rule is None else [rule.source])]
        check_sources(definition, [name for name in dict.fromkeys(sources) if name in definition.sources])
    _note_live(definition, label)
    show([asyncio.run(_backfill(definition, label, rule, span, out))], output)


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
        where = f"{at.feature} of {at.spine_id}, {RowComputed.topic_of(feature_set)}/{at.partition}/{at.offset}"
        tell(facts | {"first_difference": f"{where}: published {at.published!r}, recomputed {at.recomputed!r}"})
    if not compared.equal:
        raise typer.Exit(1)


def _show_lineage(definition: ProjectDefinition, feature_set: str, feature: str, output: Format) -> None:
    from mainstem.cli.lineage import drawn, lineage, readers  # noqa: PLC0415  (asks the registry, as few commands do)

    facts = lineage(definition.feature_sets[feature_set].compiled, feature)
    models = readers(definition, feature_set)
    if output is Format.TABLE:
        typer.echo(drawn(facts, models))
    else:
        show([facts | {"models": models}], output)


async def _trace(definition: ProjectDefinition, label: str, spine_id: str, feature: str) -> dict[str, Any]:
    from mainstem.cli.tracing import Tracer, document  # noqa: PLC0415  (for this command alone)

    compiled, kafka = definition.feature_sets[label].compiled, setting("MAINSTEM_KAFKA")
    size = sum([await _size(kafka, topics) for topics in Tracer.topics(compiled)])
    with bar(f"trace {feature}", size) as advance:
        found = await Tracer(kafka, compiled, advance).trace(spine_id, feature)
    return document(found, compiled, feature)


async def _backfill(
    definition: ProjectDefinition, feature_set: str, rule: Label | None, span: tuple[int, int], out: Path
) -> dict[str, object]:
    from mainstem.cli.row_files import RowFile, by_topic, recorded_within  # noqa: PLC0415  (slow to import)

    compiled, kafka = definition.feature_sets[feature_set].compiled, setting("MAINSTEM_KAFKA")
    labels = None if rule is None else Labels(rule, definition, feature_set)
    again = Recomputation(kafka, Fold(compiled, definition.sources), labels)
    began, records = perf_counter(), 0
    with (
        RowFile(out, compiled, labels) as file,
        bar(f"backfill {feature_set}", await _size(kafka, again.topics)) as advance,
    ):
        async for count, stretch in again.stretches():
            file.write(recorded_within(stretch, *span))
            advance(count)
            records += count
        file.tell(positions=by_topic(again.read), label=None if rule is None else rule.model_dump(mode="json"))
    _note_unreadable(again)
    return {
        "feature_set": feature_set,
        "id": compiled.id,
        "label": None if rule is None else worded(rule),
        "file": str(out),
        "rows": file.rows,
        "records": records,
        "records_per_s": round(records / (perf_counter() - began)),
    }


async def _diff(definition: ProjectDefinition, feature_set: str) -> Comparison:
    """Read the published rows first: whatever led to them is in the log when it is read afterwards."""
    compiled, kafka = definition.feature_sets[feature_set].compiled, setting("MAINSTEM_KAFKA")
    again = Recomputation(kafka, Fold(compiled, definition.sources))
    published, recomputed = Published(compiled.id, len(compiled.names)), Recomputed()
    async with LogReader(kafka, [RowComputed.topic_of(feature_set)]) as reader:
        await reader.start()
        async for records in reader.to_end():
            published.take(records)
    with bar(f"recompute {feature_set}", await _size(kafka, again.topics)) as advance:
        async for count, stretch in again.stretches():
            recomputed.take(stretch)
            advance(count)
    _note_unreadable(again)
    return compare(published, recomputed, compiled.names)


async def _size(kafka: str, topics: Sequence[str]) -> int:
    return sum((await read_ends(kafka, topics)).values())


def _rule(definition: ProjectDefinition, feature_set: str) -> Label | None:
    """Return how rows are labelled; None, with a word about it, when models that read the set do not agree."""
    rules = declared_labels(definition, feature_set)
    if len(rules) > 1:
        told = "; ".join(map(worded, rules))
        typer.echo(f"note: the models of {feature_set} have several labels, so none is written: {told}", err=True)
    return rules[0] if len(rules) == 1 else None


def _standing() -> dict[str, Mapping[str, Any]]:
    """Return how far each set is, by identity; nothing, with a word about it, when the feature service is away."""
    try:
        return {found["definition"]: found for found in get("features", "/v1/feature-sets")["feature_sets"]}
    except (Unavailable, LocalError) as fault:
        typer.echo(f"note: how far the sets are is not known: {fault}", err=True)
        return {}


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in found.items()) or "none"


def _line(definition: ProjectDefinition, label: str) -> dict[str, object]:
    found = definition.feature_sets[label]
    return {
        "feature_set": label,
        "version": found.compiled.version,
        "project": definition.charter.name,
        "spine": found.compiled.spine,
        "features": len(found.compiled.names),
        "id": found.id,
    }


def _values(answer: Mapping[str, Any], entities: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Return a line for each value of one entity, or a line for each of several entities."""
    rows: list[dict[str, object]] = [dict(zip(answer["names"], row, strict=True)) for row in answer["values"]]
    if len(rows) == 1:
        return [{"feature": name, "value": value} for name, value in rows[0].items()]
    called = (" ".join(f"{name}={value}" for name, value in entity.items()) for entity in entities)
    return [{"entity": name, **row} for name, row in zip(called, rows, strict=True)]


def _facts(compared: Comparison, definition: ProjectDefinition, feature_set: str) -> dict[str, object]:
    return {
        "feature_set": feature_set,
        "id": definition.feature_sets[feature_set].id,
        "rows": compared.rows,
        "copies": compared.copies,
        "cells": compared.cells,
        "differing": compared.differing,
        "unknown": len(compared.unknown),
        "first_unknown": next(iter(compared.unknown), None),
        "missing": len(compared.missing),
        "first_missing": next(iter(compared.missing), None),
        "unreadable": len(compared.unreadable),
        "first_unreadable": next(iter(compared.unreadable), None),
        "first_difference": None if compared.first is None else compared.first._asdict(),
    }


def _note_live(definition: ProjectDefinition, feature_set: str) -> None:
    streams = definition.feature_sets[feature_set].compiled.streams
    live = [name for name in streams if not definition.sources[name].replay]
    if live:
        order = "what the journal does not name is taken in order of arrival, which need not be how the stream met it"
        typer.echo(f"note: {', '.join(live)} announce no progress: {order}", err=True)


def _note_unreadable(again: Recomputation) -> None:
    if again.unreadable:
        told = f"{again.unreadable} of the records read were never accepted by ingestion"
        typer.echo(f"note: {told}: they are passed over, as the stream passes over them; fix their writer", err=True)
