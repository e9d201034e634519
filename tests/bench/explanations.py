"""`python -m tests.bench.explanations COPY`: a thousand answers of a copy of the log explained, given again, checked.

The copy is made with `mainstem audit export COPY --artifacts`, of the demo for the figures that are wanted. The keys
are those of the platform, or given. Exit code 1 when a goal is not met.
"""

import argparse
import asyncio
import io
import json
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

from rich.console import Console
from tests.bench.goals import Goal, Outcome
from tests.bench.stage import CHECKOUT

from mainstem.cli.connection import setting
from mainstem.cli.evidence.bundle import bundle
from mainstem.cli.evidence.copied import Copy
from mainstem.cli.evidence.explaining import explain
from mainstem.cli.evidence.opening import artifacts_of
from mainstem.cli.evidence.replaying import Replay
from mainstem.cli.evidence.sampling import sample
from mainstem.cli.evidence.trial import explain_many, milliseconds, replay_many
from mainstem.cli.progress import bar

CHECKER: Final = CHECKOUT / "tools" / "check_explanation.py"
ANSWERS: Final = 1_000
SEED: Final = 0
WIDTH: Final = 120


async def measure(folder: Path, count: int, keys: tuple[str, str]) -> list[Outcome]:
    """Return what became of answers that are chosen by chance."""
    archive = Copy(folder, keys[0], keys[1:])
    explained = await explain_many(archive, count, SEED)
    replayed = await replay_many(archive, Replay(artifacts_of(folder, None)), count, SEED)
    refused = await _refused(archive, count, keys)
    differing = sum(not each.equal for each in replayed)
    return [
        Outcome("an answer explained, p50", "", milliseconds(explained.cpu_seconds, 0.5), "CPU ms", Goal(50)),
        Outcome("an answer explained, p99", "", milliseconds(explained.cpu_seconds, 0.99), "CPU ms", Goal(50)),
        Outcome(f"fields without a reason, of {explained.stories} answers", "", len(explained.empty), "", Goal(0)),
        Outcome("contradictions", "", len(explained.faults), "", Goal(0)),
        Outcome(f"other bits, of {len(replayed)} answers given again", "", differing, "", Goal(0)),
        Outcome(f"bundles refused by the checker, of {explained.stories}", "", len(refused), "", Goal(0)),
    ]


async def _refused(archive: Copy, count: int, keys: tuple[str, str]) -> list[str]:
    """Return why bundles are refused by the program that knows nothing of us."""
    check, refused = runpy.run_path(str(CHECKER))["check"], []
    answers = await sample(archive, count, SEED)
    with bar("checking", len(answers)) as advance:
        for answer in answers:
            story = await explain(archive, answer.envelope.id)
            packed = json.loads(json.dumps(await bundle(archive, story)))
            try:
                with redirect_stdout(io.StringIO()):
                    check(packed, *keys)
            except (ValueError, LookupError) as fault:
                refused.append(f"{story.prediction}: {fault!r}")
            advance(1)
    return refused


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.explanations", description=__doc__)
    parser.add_argument("copy", type=Path)
    parser.add_argument("--answers", type=int, default=ANSWERS)
    parser.add_argument("--log-key")
    parser.add_argument("--witness-key")
    given = parser.parse_args()
    keys = given.log_key or setting("MAINSTEM_LOG_VKEY"), given.witness_key or setting("MAINSTEM_WITNESS_VKEY")
    outcomes = [each.document() for each in asyncio.run(measure(given.copy, given.answers, keys))]
    console = Console(highlight=False, width=WIDTH)
    for one in outcomes:
        console.print(f"{one['subject']:<60}{one['value']:>10,.2f} {one['unit']:<7} {one['goal']:>5}  {one['met']}")
    return 0 if all(one["met"] for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
