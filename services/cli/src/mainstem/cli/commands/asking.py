"""`mainstem audit impact | origins | absent | as-of | diff | lineage`: what follows from the entries of the log."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mainstem.cli.connection import setting
from mainstem.cli.copies import ARTIFACTS
from mainstem.cli.evidence import ancestry
from mainstem.cli.evidence.following import followed
from mainstem.cli.output import Format
from mainstem.cli.signatures import signed
from mainstem.events.errors import Rejected
from mainstem.lineage import openlineage, prov, questions
from mainstem.storage.artifacts import Artifacts

Log = Annotated[Path | None, typer.Option("--log", help="A copy of the log; without it the platform's own archive.")]
Store = Annotated[
    Path | None, typer.Option("--artifacts", help="Folder of artifacts; without it the copy's, or the platform's.")
]
Size = Annotated[int | None, typer.Option("--size", min=0, help="By what the first so many leaves say.")]
LogKey = Annotated[
    str | None, typer.Option("--log-key", help="Public key of the log, or a file with it; else the platform's here.")
]
WitnessKeys = Annotated[
    list[str] | None, typer.Option("--witness-key", help="Public key of a witness, or a file with it.")
]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]
Names = Annotated[
    list[str],
    typer.Argument(help="Leaves, places (topic/partition/offset), versions (model/3), content addresses, or ids."),
]

_SHOWN = 8


class Vocabulary(StrEnum):
    """In whose words lineage is written."""

    OPENLINEAGE = "openlineage"
    PROV = "prov"


def impact(
    names: Names, log: Log = None, artifacts: Store = None, size: Size = None, output: Output = Format.TABLE
) -> None:
    """List what these went into: rows, datasets, versions, decisions, predictions, alerts.

    Records of a copy (`--log`) are followed into every row that counts them, and to what they are labels of.
    """
    known = _read(log, artifacts, size)
    rows = [ancestry.find(known.graph, name) for name in names]
    if log is not None:
        known = followed(known, log, Artifacts(_store(log, artifacts)), rows)
    _tell(ancestry.reached(known, questions.forward(known.graph, rows)), output)


def origins(
    names: Names, log: Log = None, artifacts: Store = None, size: Size = None, output: Output = Format.TABLE
) -> None:
    """List what these were made of, back to the records of sources, and whose records rows count in their windows."""
    known = _read(log, artifacts, size)
    rows = [ancestry.find(known.graph, name) for name in names]
    behind = questions.backward(known.graph, rows)
    _tell({**ancestry.reached(known, behind), "windows_of": ancestry.windows_behind(known, rows)}, output)


def absent(  # noqa: PLR0913, PLR0917  (each is an option of the command)
    name: Annotated[str, typer.Argument(help="What is asked about: a version (model/3), an address, an id.")],
    prefix: Annotated[
        str, typer.Argument(help="What is not to be behind it: how its topic or name begins, src.orders.")
    ],
    log: Log = None,
    artifacts: Store = None,
    size: Size = None,
    log_key: LogKey = None,
    witness_keys: WitnessKeys = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell whether nothing of a source, or of another origin, is behind something; exit code 1 unless proven.

    Of a copy nothing is proven as long as no key tells that its checkpoint was signed.
    """
    found = ancestry.absent(_read(log, artifacts, size), name, prefix)
    if log is not None:
        signatures = signed(log, log_key, witness_keys or [])
        found |= {"proven": found["proven"] and signatures.holds, "signature": signatures.told}
    _tell(found, output)
    if not found["proven"]:
        raise typer.Exit(1)


def as_of(
    log: Log = None,
    artifacts: Store = None,
    size: Size = None,
    at: Annotated[
        str | None, typer.Option(help="What was in force at a moment, RFC 3339, as far as it is known.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell which definitions, versions, deployments were in force and which alerts open, as was known then."""
    _tell(ancestry.in_force(_read(log, artifacts, size).graph, at), output)


def diff(
    before: Annotated[int, typer.Argument(min=0, help="Size of the log at the first moment.")],
    after: Annotated[int, typer.Argument(min=0, help="Size at the second.")],
    log: Log = None,
    artifacts: Store = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell what the leaves between two sizes of the log brought, and what they put in force."""
    _tell(ancestry.difference(_read(log, artifacts, None).graph, before, after), output)


def lineage(
    vocabulary: Annotated[Vocabulary, typer.Argument(help="In whose words.")],
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
    log: Log = None,
    artifacts: Store = None,
    of: Annotated[
        list[str] | None, typer.Option("--of", help="Only of this, of what it was made of, and of what it went into.")
    ] = None,
) -> None:
    """Write lineage for other programs: OpenLineage events, a line each, or a PROV-JSON document.

    A PROV document is made in memory, some eight kilobytes an entry: of a long log ask for a part with `--of`.
    """
    leaves = ancestry.around(_read(log, artifacts, None).graph, of) if of else None
    placed = asyncio.run(ancestry.entries(log, leaves, many=vocabulary is Vocabulary.PROV))
    if vocabulary is Vocabulary.PROV:
        text = json.dumps(prov.write(placed, leaves).document)
    else:
        text = "".join(f"{json.dumps(event)}\n" for event in openlineage.Export().events(placed, leaves))
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise Rejected(f"{file} cannot be written: {fault}; name a file where you may write") from fault
    typer.echo(f"{file}: {len(text):,} characters", err=True)


def _read(log: Path | None, artifacts: Path | None, size: int | None) -> ancestry.Ancestry:
    return asyncio.run(ancestry.read(log, _store(log, artifacts), size))


def _store(log: Path | None, artifacts: Path | None) -> Path:
    """Return the folder of artifacts that was given, or else that of the copy, or of the platform."""
    return artifacts or (Path(setting("MAINSTEM_ARTIFACTS")) if log is None else log / ARTIFACTS)


def _tell(found: Mapping[str, Any], output: Format) -> None:
    if output is Format.TABLE:
        typer.echo("\n".join(_lines(found, "")))
    else:
        typer.echo(json.dumps(found, indent=2 if output is Format.JSON else None))


def _lines(found: Mapping[str, Any], indent: str) -> Iterator[str]:
    width = max(map(len, found), default=0) + 2
    for name, value in found.items():
        if isinstance(value, Mapping) and set(value) == {"count", "first"}:
            first = ", ".join(value["first"][:_SHOWN])
            yield f"{indent}{name:<{width}}{value['count']}  {first}{' …' if value['count'] > _SHOWN else ''}"
        elif isinstance(value, Mapping):
            yield f"{indent}{name}{'' if value else '  none'}"
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{indent}{name}"
            yield from (f"{indent}  {_edge(one)}" for one in value)
        else:
            yield f"{indent}{name:<{width}}{', '.join(map(str, value)) if isinstance(value, list) else value}"


def _edge(one: Mapping[str, Any]) -> str:
    return f"{one['from']} {one['relation']} {one['to']}  (leaf {one['leaf']})"
