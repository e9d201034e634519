"""The command `mainstem`: noun, then verb. Commands import what they need when they run."""

import typer

from mainstem.cli.commands import platform
from mainstem.cli.lazy import lazy_group

#: Groups of commands: name to (module that holds the Typer `app`, line of help).
GROUPS: dict[str, tuple[str, str]] = {
    "project": ("mainstem.cli.commands.project", "Validate a project folder; put its definition in force."),
    "model": ("mainstem.cli.commands.model", "Versions of models: look, approve, promote, roll back."),
}

app = typer.Typer(
    cls=lazy_group(GROUPS),
    help="Run the machine-learning life cycle as services that exchange typed events over Kafka.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command()(platform.up)
app.command()(platform.down)
app.command()(platform.status)
app.command()(platform.logs)
app.command()(platform.doctor)
