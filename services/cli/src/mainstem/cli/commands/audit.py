"""`mainstem audit verify | replay`: the archive against itself, and the services' tables against the archive."""

import asyncio
import json
from dataclasses import asdict
from typing import Annotated

import typer

from mainstem.cli import audit
from mainstem.cli.output import Format, show

app = typer.Typer(help="Prove that nothing was changed and that every table follows from the log.")

Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]

_DIGITS = 16


@app.command()
def verify(output: Output = Format.TABLE) -> None:
    """Read and hash every archived entry again; exit code 1 when one is not as it was archived."""
    verdict = asyncio.run(audit.verify())
    if output is Format.JSON:
        typer.echo(json.dumps({**asdict(verdict), "holds": verdict.holds}, indent=2))
    else:
        for fault in verdict.faults:
            typer.echo(f"DAMAGED {fault.where}: {fault.what}")
        typer.echo(f"size         {verdict.size}\nroot         {verdict.root}\ncheckpoints  {verdict.checkpoints}")
        typer.echo(f"verdict      {'holds' if verdict.holds else f'damaged, {len(verdict.faults)} faults'}")
    if not verdict.holds:
        raise typer.Exit(1)


@app.command()
def replay(output: Output = Format.TABLE) -> None:
    """Rebuild every service's tables from the archive alone and compare; exit code 1 when one differs.

    The services should be at rest meanwhile. Rebuilt tables stay in the database `mainstem_replay` until the next time.
    """
    compared = asyncio.run(audit.replay(list(audit.foldings())))
    digits = None if output is Format.JSON else _DIGITS
    rows = [
        {
            "service": each.service,
            "table": each.table,
            "rows": each.rebuilt.rows,
            "live": each.live.sha256[:digits],
            "rebuilt": each.rebuilt.sha256[:digits],
            "equal": each.equal,
        }
        for each in compared
    ]
    show(rows, output)
    if not all(each.equal for each in compared):
        raise typer.Exit(1)
