"""`mainstem prediction explain | replay | batch`: an answer and what it rests on, the same once more, and many."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import typer

from mainstem.cli.commands.asking import LogKey, WitnessKeys
from mainstem.cli.evidence import bundle as packing
from mainstem.cli.evidence.archive import Archive
from mainstem.cli.evidence.explaining import explain as story_of
from mainstem.cli.evidence.explaining import find
from mainstem.cli.evidence.opening import artifacts_of, opened
from mainstem.cli.evidence.page import page
from mainstem.cli.evidence.replaying import Replay, Replayed, here
from mainstem.cli.evidence.story import Story
from mainstem.cli.evidence.trial import Explained, explain_many, milliseconds, replay_many
from mainstem.cli.output import Format, show, tell
from mainstem.events.errors import Rejected

app = typer.Typer(help="Explain an answer from the log, give it again, and answer the rows of a file.")

Id = Annotated[
    str | None, typer.Argument(help="Event id of the prediction, or its first eight digits.", show_default=False)
]
Copied = Annotated[
    Path | None, typer.Option("--log", help="A copy of the log (`audit export`); without it the platform's archive.")
]
Sample = Annotated[int | None, typer.Option(min=1, help="So many predictions chosen by chance, in the place of an id.")]
Seed = Annotated[int, typer.Option(help="Chooses them; the same seed, the same predictions.")]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]

Lent = AbstractAsyncContextManager[Archive]

_SHOWN = 20


@app.callback()
def group() -> None:
    """Explain an answer from the log, give it again, and answer the rows of a file."""


@app.command()
def explain(  # noqa: PLR0913, PLR0917  (each is an option of the command)
    prediction_id: Id = None,
    log: Copied = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Write story, entries and proofs to this file, for others to check.")
    ] = None,
    sample: Sample = None,
    seed: Seed = 0,
    log_key: LogKey = None,
    witness_keys: WitnessKeys = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell where an answer comes from and what became of it: inputs, records, model, decisions, state, outcome, proofs.

    What cannot be told has its reason. Exit code 1 when something contradicts the answer.
    """
    wanted, archive = _needs_one(prediction_id, sample), opened(log, log_key, witness_keys or [])
    if sample is not None:
        _tell_explained(asyncio.run(_explain_many(archive, sample, seed)), output)
        return
    story = asyncio.run(_explain(wanted, archive, bundle))
    if output is Format.TABLE:
        typer.echo("\n".join(page(story)))
    else:
        typer.echo(json.dumps(story.document(), indent=2 if output is Format.JSON else None))
    if story.faults:
        raise typer.Exit(1)


@app.command()
def replay(
    prediction_id: Id = None,
    log: Copied = None,
    artifacts: Annotated[
        Path | None, typer.Option(help="Folder with the model; without it that of the copy, or the platform's.")
    ] = None,
    sample: Sample = None,
    seed: Seed = 0,
    output: Output = Format.TABLE,
) -> None:
    """Run the archived model on the archived inputs and compare bits; exit code 1 when they are others."""
    replayer = Replay(artifacts_of(log, artifacts))
    wanted = _needs_one(prediction_id, sample)
    replayed = asyncio.run(
        _replay(wanted, log, replayer) if sample is None else _replay_many(log, replayer, sample, seed)
    )
    if sample is None:
        _tell_one(replayed[0], output)
    else:
        _tell_replayed(replayed, output)
    if not all(each.equal for each in replayed):
        raise typer.Exit(1)


@app.command()
def batch(  # noqa: PLR0913, PLR0917  (each is an option of the command)
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.", dir_okay=False)],
    file: Annotated[
        Path | None,
        typer.Option(help="Rows: a file .parquet, .csv or .ndjson.", exists=True, dir_okay=False),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Rows: a dataset, by its id or the beginning of it.")] = None,
    version: Annotated[str | None, typer.Option(help="A version that answers; else as calls are routed.")] = None,
    entity: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column with the key of whom a row is about; a call for each.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Ask a model about every row of a file or a dataset, and write what it answered beside the row.

    The rows bring the features of the model, or columns of its spine, by which the features are looked up. Each is
    answered and recorded as a direct call is. It is no transaction: what was answered before an error stays recorded.
    """
    if (file is None) == (dataset is None):
        raise typer.BadParameter("say where the rows are, with --file or --dataset")
    if out.exists() and not overwrite:
        raise Rejected(f"{out} is there already; name another file, or replace it with --overwrite")
    from mainstem.cli.batch import scoring, source  # noqa: PLC0415  (slow to import)

    rows = source.open_file(file) if file is not None else source.open_dataset(dataset or "")
    facts = asyncio.run(scoring.score(rows, model, version, entity, out))
    if output is Format.TABLE:
        facts |= {"versions": ", ".join(f"{number}: {count}" for number, count in facts["versions"].items())}
    _show(facts, output)


def _needs_one(prediction_id: str | None, sample: int | None) -> str:
    if (prediction_id is None) == (sample is None):
        raise typer.BadParameter("give the id of a prediction, or --sample with how many")
    return prediction_id or ""


async def _explain(prediction_id: str, lent: Lent, file: Path | None) -> Story:
    async with lent as archive:
        story = await story_of(archive, prediction_id)
        if file is not None:
            packing.save(await packing.bundle(archive, story), file)
        return story


async def _explain_many(lent: Lent, count: int, seed: int) -> Explained:
    async with lent as archive:
        return await explain_many(archive, count, seed)


async def _replay(prediction_id: str, log: Path | None, replayer: Replay) -> Sequence[Replayed]:
    async with opened(log) as archive:
        return [replayer.run(await find(archive, prediction_id))]


async def _replay_many(log: Path | None, replayer: Replay, count: int, seed: int) -> Sequence[Replayed]:
    async with opened(log) as archive:
        return await replay_many(archive, replayer, count, seed)


def _tell_explained(explained: Explained, output: Format) -> None:
    facts: dict[str, object] = {
        "explained": explained.stories,
        "p50_ms": milliseconds(explained.seconds, 0.5),
        "p99_ms": milliseconds(explained.seconds, 0.99),
        "cpu_p99_ms": milliseconds(explained.cpu_seconds, 0.99),
        "empty": len(explained.empty),
        "contradictions": len(explained.faults),
        **{f"not_told_{name}": count for name, count in explained.gaps.most_common()},
    }
    _show(facts, output)
    for line in [*explained.empty, *explained.faults][:_SHOWN]:
        typer.echo(line, err=True)
    if not explained.holds:
        raise typer.Exit(1)


def _tell_one(replayed: Replayed, output: Format) -> None:
    answer = {name: getattr(replayed, name) for name in ("prediction", "leaf", "model", "version", "onnx")}
    bits = {"served": replayed.served, "replayed": replayed.replayed, "equal": replayed.equal, "ulps": replayed.ulps}
    _show({**answer, **bits, **here()}, output)


def _tell_replayed(replayed: Sequence[Replayed], output: Format) -> None:
    differing = [each for each in replayed if not each.equal]
    models = len({each.onnx for each in replayed})
    counts = {"replayed": len(replayed), "models": models, "equal": len(replayed) - len(differing)}
    _show({**counts, "differing": len(differing), **here()}, output)
    for each in differing[:_SHOWN]:
        typer.echo(f"{each.prediction}: {each.served} was served, {each.replayed} is {each.ulps} ulp from it", err=True)


def _show(facts: dict[str, object], output: Format) -> None:
    if output is Format.TABLE:
        tell(facts)
    else:
        show([facts], output)
