"""`mainstem audit export | verify | prove | replay`: copies of the log, and what follows from it."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from mainstem.audit.copying import Choice
from mainstem.audit.verification import Keys, Report
from mainstem.cli import audit, copies, restoring, sealing
from mainstem.cli import replay as rebuilding
from mainstem.cli.commands import asking
from mainstem.cli.connection import setting
from mainstem.cli.folding import foldings
from mainstem.cli.output import Format, show, tell
from mainstem.cli.signatures import read_keys, signed
from mainstem.events.errors import Rejected

app = typer.Typer(help="Prove that nothing was changed and that every table follows from the log.")

for name, ask in (
    ("impact", asking.impact),
    ("origins", asking.origins),
    ("absent", asking.absent),
    ("as-of", asking.as_of),
    ("diff", asking.diff),
    ("lineage", asking.lineage),
):
    app.command(name)(ask)

Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]

_DIGITS = 16
_NO_END = 1 << 63


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where the copy is to stand; a folder that is not there yet.")],
    topics: Annotated[
        list[str] | None, typer.Option("--topic", help="Only entries of this topic; `evt.registry.*` is a family.")
    ] = None,
    first: Annotated[int, typer.Option("--from", min=0, help="Only entries from this leaf on.")] = 0,
    end: Annotated[int | None, typer.Option("--to", min=1, help="Only entries before this leaf.")] = None,
    artifacts: Annotated[bool, typer.Option(help="With every artifact that they name.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Copy the log into files that anybody can verify: C2SP tiles, entries, and the cosigned checkpoint.

    Hashes of what is left out are there all the same. Services may run meanwhile; the copy ends at the last checkpoint.
    """
    choice = Choice(range(first, _NO_END if end is None else end), tuple(topics) if topics else None)
    done = asyncio.run(copies.export(folder, choice, artifacts=artifacts))
    facts = {"folder": str(folder), "size": done.size, "root": done.root, **asdict(done.copied)}
    facts |= {"artifacts": done.artifacts}
    _tell(facts, output)


@app.command()
def verify(
    log: Annotated[
        Path | None, typer.Argument(help="A copy of the log; without it the platform's own archive.")
    ] = None,
    log_key: asking.LogKey = None,
    witness_keys: asking.WitnessKeys = None,
    since: Annotated[Path | None, typer.Option(help="A checkpoint that you kept: the log must extend it.")] = None,
    part: Annotated[bool, typer.Option("--part", help="Entries may be withheld.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Read and hash every entry again; exit code 1 when one is not as it was archived.

    All that was signed is held against it: of a copy with keys that you were given, else with the platform's.
    """
    keys = read_keys(log_key, witness_keys or [])
    if log is None:
        _verify_archive(keys, output)
        return
    report = copies.verify(log, keys, since, part=part)
    if output is Format.TABLE:
        typer.echo("\n".join(_page(report)))
    else:
        typer.echo(json.dumps(_document(report), indent=2 if output is Format.JSON else None))
    if not report.holds:
        raise typer.Exit(1)


def _verify_archive(keys: Keys, output: Format) -> None:
    verdict = asyncio.run(audit.verify(keys))
    if output is Format.TABLE:
        for fault in verdict.faults:
            typer.echo(f"DAMAGED {fault.where}: {fault.what}")
        typer.echo(f"size         {verdict.size}\nroot         {verdict.root}\ncheckpoints  {verdict.checkpoints}")
        typer.echo(f"signed       {verdict.signed}")
        typer.echo(f"verdict      {'holds' if verdict.holds else f'damaged, {len(verdict.faults)} faults'}")
    else:
        document = {**asdict(verdict), "holds": verdict.holds}
        typer.echo(json.dumps(document, indent=2 if output is Format.JSON else None))
    if not verdict.holds:
        raise typer.Exit(1)


@app.command()
def prove(
    log: Annotated[Path, typer.Argument(help="A copy of the log.")],
    entry: Annotated[str, typer.Argument(help="Event id, or leaf.")],
    log_key: asking.LogKey = None,
    witness_keys: asking.WitnessKeys = None,
) -> None:
    """Print what proves that an entry is in the log, as C2SP tlog-proof: place, audit path, cosigned checkpoint.

    A checkpoint that the owners of the keys did not sign proves nothing, and is refused.
    """
    signatures = signed(log, log_key, witness_keys or [])
    if signatures.fault:
        raise Rejected(f"{log} proves nothing: {signatures.fault}; run `mainstem audit verify` on it")
    found = copies.prove(log, entry)
    typer.echo(f"{found.name}, {signatures.told}", err=True)
    typer.echo(found.receipt.render().decode(), nl=False)


def _tell(facts: dict[str, object], output: Format) -> None:
    if output is Format.TABLE:
        tell(facts)
    else:
        show([facts], output)


def _page(report: Report) -> Iterator[str]:
    yield from (f"DAMAGED {fault.where}: {fault.what}" for fault in report.faults)
    yield f"log          {report.origin}"
    yield f"size         {report.size}"
    yield f"root         {report.root}"
    yield f"cosigned by  {', '.join(report.cosigned) or 'nobody that you know'}"
    yield f"entries      {report.entries} read, {report.withheld} withheld"
    yield f"checkpoints  {report.checkpoints}"
    for found in report.unread:
        yield f"unread       {found.count} of {found.topic}, the first at leaf {found.first_leaf}: {found.why}"
    yield f"verdict      {'holds' if report.holds else f'damaged, {len(report.faults)} faults'}"


def _document(report: Report) -> dict[str, object]:
    faults = [fault._asdict() for fault in report.faults]
    return {**asdict(report), "faults": faults, "holds": report.holds}


@app.command()
def seal(
    before: Annotated[datetime, typer.Option(help="Seal what the broker took before this; UTC without an offset.")],
    output: Output = Format.TABLE,
) -> None:
    """Write closed ranges of the archive to Parquet files, verify these, and take the entries out of the database.

    The files are artifacts, and what reads the archive reads them there. It runs as the database's owner; services may
    run meanwhile.
    """
    _tell(asdict(asyncio.run(sealing.seal(before if before.tzinfo else before.replace(tzinfo=UTC)))), output)


@app.command()
def restore(
    copy: Annotated[Path, typer.Argument(help="A copy of the whole log, with its artifacts.")],
    since: Annotated[
        Path | None, typer.Option(help="The last checkpoint that is known of, where the witness has lost its memory.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Bring the platform back from a copy alone: into an empty broker and database, while no service runs.

    Start the servers with `mainstem up --servers-only` before, and everything with `mainstem up` afterwards.
    """
    _tell(asdict(asyncio.run(restoring.restore(copy, since))), output)


@app.command()
def replay(
    log: Annotated[
        Path | None, typer.Argument(help="A copy of the log; without it the platform's own archive.")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="PostgreSQL with the tables to compare with; without it the platform's.")
    ] = None,
    expect: Annotated[
        Path | None, typer.Option(help="Compare with what `audit replay -o json` printed elsewhere, kept in this file.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a replay of this log was interrupted.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Rebuild every service's tables from the log alone and compare; exit code 1 when one differs.

    The services should be at rest meanwhile. Rebuilt tables stay in the database `mainstem_replay` until the next time.
    """
    url = database or setting("MAINSTEM_DATABASE_URL")
    root, expected = (None, None) if expect is None else _expected(expect)
    report = asyncio.run(rebuilding.replay(log, list(foldings()), url, expected, resume=resume))
    if root not in {None, report.root}:
        raise Rejected(
            f"{expect} is of the log with root {root}, this one has {report.root}; take the copy that it is of"
        )
    rows = [_row(each, None if output is Format.JSON else _DIGITS) for each in report.tables]
    if output is Format.JSON:
        left_out = [each._asdict() for each in report.left_out]
        told = {"size": report.size, "root": report.root, "first_leaf": report.first_leaf, "tables": rows}
        typer.echo(json.dumps({**told, "left_out": left_out, "left_out_of": report.left_out_of}, indent=2))
    else:
        show(rows, output)
        for line in _end(report):
            typer.echo(line, err=True)
    if not report.equal:
        raise typer.Exit(1)


def _expected(file: Path) -> tuple[str, dict[tuple[str, str], rebuilding.Digest]]:
    """Return the root of the log that was replayed, and the digests that its tables had."""
    try:
        said = json.loads(file.read_text())
        rows = {
            (row["service"], row["table"]): rebuilding.Digest(row["rows"], row["rebuilt"]) for row in said["tables"]
        }
        return str(said["root"]), rows
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise Rejected(
            f"{file} is not what `mainstem audit replay -o json` prints: {fault!r}; give its output"
        ) from fault


def _row(table: rebuilding.Comparison, digits: int | None) -> dict[str, object]:
    return {
        "service": table.service,
        "table": table.table,
        "rows": table.rebuilt.rows,
        "live": table.live.sha256[:digits],
        "rebuilt": table.rebuilt.sha256[:digits],
        "equal": table.equal,
    }


def _end(report: rebuilding.Report) -> Iterator[str]:
    yield f"leaves {report.first_leaf} to {report.size - 1} of the log with root {report.root}"
    for service, count in sorted(report.left_out_of.items()):
        if count:
            yield f"{service}: {count} entries were left out, as the service parked them:"
            yield from (f"  {each.where}: {each.why}" for each in report.left_out if each.service == service)
