"""`mainstem up | down | status | logs | doctor`: the local platform."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from mainstem.cli.output import Format, show

Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]


def up(
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and stop everything on Ctrl-C.")] = False,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="Kafka and PostgreSQL alone, to run services by hand.")
    ] = False,
) -> None:
    """Start the platform; when it runs already, say where."""
    from mainstem.cli.local import graph, session  # noqa: PLC0415

    services = () if servers_only else tuple(graph.SERVICES)
    home = session.home_for_start(Path.cwd())
    state = session.running(home)
    if state is None and foreground:
        return session.stay(home, services)
    if state is None:
        state = session.detach(home, services)
    else:
        typer.echo(f"already running at {home.root}", err=True)
    _show(session.rows(state), Format.TABLE)
    return typer.echo(f"addresses for a shell: source {home.env}", err=True)


def down(
    purge: Annotated[
        bool, typer.Option("--purge", help="Also remove all data, tokens, logs and the cache: the whole .mainstem.")
    ] = False,
) -> None:
    """Stop the platform; its data stays unless you purge."""
    from mainstem.cli.local import session  # noqa: PLC0415

    home = session.home_for_start(Path.cwd())
    typer.echo("stopped" if session.stop(home) else "nothing was running", err=True)
    if purge:
        session.purge(home)
        typer.echo(f"removed {home.folder}", err=True)


def status(output: Output = Format.TABLE) -> None:
    """Show every process, and why one is not ready; exit code 1 unless all of them are."""
    from mainstem.cli.local import session  # noqa: PLC0415
    from mainstem.cli.local.home import find_home  # noqa: PLC0415

    home = find_home(Path.cwd())
    state = session.require_running(home)
    rows = session.rows(state)
    _show(rows, output)
    if any(row["status"] != "ready" for row in rows):
        raise typer.Exit(1)


def _show(rows: Sequence[Mapping[str, object]], output: Format) -> None:
    """Print processes; in a table each reason has a line of its own, below it."""
    left_out = {"reason"} if output is Format.TABLE else set[str]()
    show([{name: value for name, value in row.items() if name not in left_out} for row in rows], output)
    for row in rows:
        if left_out and row["reason"] is not None:
            typer.echo(f"{row['process']}: not ready: {row['reason']}", err=True)


def logs(
    service: Annotated[str | None, typer.Argument(help="One process; all of them when left out.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", help="How many lines of the past.")] = 20,
) -> None:
    """Print what processes logged."""
    from mainstem.cli.local import logfiles  # noqa: PLC0415
    from mainstem.cli.local.home import find_home  # noqa: PLC0415

    files = logfiles.find(find_home(Path.cwd()).logs, service)
    for line in logfiles.read(files, lines, follow=follow):
        typer.echo(line)


def doctor(output: Output = Format.TABLE) -> None:
    """Check what the platform needs of this machine; exit code 1 when something blocks it."""
    from mainstem.cli.local import doctor as checks  # noqa: PLC0415
    from mainstem.cli.local import session  # noqa: PLC0415

    results = checks.examine(session.home_for_start(Path.cwd()))
    show([result.row() for result in results], output)
    if any(result.verdict is checks.Verdict.BLOCKS for result in results):
        raise typer.Exit(1)
