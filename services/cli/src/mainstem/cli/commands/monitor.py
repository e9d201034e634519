"""`mainstem monitor list | show`: how models in production do."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mainstem.cli.calls import get
from mainstem.cli.output import Format, show

app = typer.Typer(help="Windows of models in production: quality and drift.", no_args_is_help=True)

Row = Mapping[str, Any]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]


@app.command("list")
def list_(output: Output = Format.TABLE) -> None:
    """List the models that are watched, with the last window of the version in production."""
    monitors = get("monitoring", "/v1/monitors")["monitors"]
    show(monitors if output is Format.JSON else [_line(monitor) for monitor in monitors], output)


@app.command("show")
def show_(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many windows, the newest first.")] = 20,
    output: Output = Format.TABLE,
) -> None:
    """Show the windows of a model, version by version; JSON holds every figure."""
    windows = get("monitoring", f"/v1/monitors/{model}/windows?limit={limit}")["windows"]
    show(windows if output is Format.JSON else [_window(window) for window in windows], output)


def _line(monitor: Row) -> dict[str, object]:
    line = {name: monitor[name] for name in ("model", "project", "version", "answers_from", "windows")}
    last = monitor["last"] or {}
    figures = last.get("figures", {})
    return {**line, "last_window": last.get("end_time"), "auc": _short(figures.get("auc")), "drift": _drift(figures)}


def _window(window: Row) -> dict[str, object]:
    figures = window["figures"]
    shown = {name: _short(figures.get(name)) for name in ("auc", "brier", "positive_rate")}
    line = {name: window[name] for name in ("start_time", "end_time", "version", "predictions", "labelled")}
    return {**line, **shown, "drift": _drift(figures), "alerts": ", ".join(figures.get("alerts", []))}


def _drift(figures: Row) -> str:
    """Name the feature that moved most, by its population stability index."""
    psi = figures.get("psi")
    if not psi:
        return ""
    name = max(psi, key=psi.__getitem__)
    return f"{name} {psi[name]:.3f}"


def _short(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.4f}"
