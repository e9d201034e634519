"""`mainstem demo`: a project's demo, on a platform of its own."""

from pathlib import Path
from typing import Annotated

import typer

#: What stands behind the folder is handed to the demo, options of its own included.
CONTEXT = {"ignore_unknown_options": True}


def demo(
    project: Annotated[Path, typer.Argument(help="Project folder below this one.")] = Path("projects/flights"),
    arguments: Annotated[list[str] | None, typer.Argument(help="What the demo itself takes.")] = None,
) -> None:
    """Run a project's demo on an empty local platform; exit code 0 only when all that it promises held.

    It starts all services, runs `<project>/demo` beside them and stops everything at its end. Data of an earlier demo
    is thrown away; that of the last one stays, for `mainstem up` to go on with.
    """
    from mainstem.cli.local import demo as local  # noqa: PLC0415

    raise typer.Exit(local.run(Path.cwd(), project, arguments or []))
