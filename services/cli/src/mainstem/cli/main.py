"""The command `mainstem`: noun, then verb. Commands import what they need when they run."""

import logging

import typer

from mainstem.cli.commands import demo, platform, serving
from mainstem.cli.lazy import lazy_group

#: Groups of commands: name to (module that holds the Typer `app`, line of help).
GROUPS: dict[str, tuple[str, str]] = {
    "project": ("mainstem.cli.commands.project", "Validate a project folder; put its definition in force."),
    "source": ("mainstem.cli.commands.source", "Send records of a file to a source."),
    "quarantine": ("mainstem.cli.commands.quarantine", "Refused records: look, and send corrections."),
    "feature": ("mainstem.cli.commands.feature", "Feature sets: look, read, trace, compute anew, compare."),
    "dataset": ("mainstem.cli.commands.dataset", "Datasets: build, look, check against the manifest."),
    "training": ("mainstem.cli.commands.training", "Training runs: start, look."),
    "event": ("mainstem.cli.commands.event", "Events on the bus: follow, look up, read their schemas."),
    "model": ("mainstem.cli.commands.model", "Versions of models: look, import, approve, promote, roll back."),
    "monitor": ("mainstem.cli.commands.monitor", "Windows of models in production: quality and drift."),
    "alert": ("mainstem.cli.commands.alert", "Alerts on models in production: look, close."),
    "audit": ("mainstem.cli.commands.audit", "Prove that nothing was changed and every table follows from the log."),
    "prediction": ("mainstem.cli.commands.prediction", "Explain an answer from the log; answer the rows of a file."),
}

# That a client of the broker tries again is no news for whoever runs a command.
logging.getLogger("aiokafka").setLevel(logging.ERROR)

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
app.command()(serving.serve)
app.command(context_settings=demo.CONTEXT)(demo.demo)
