"""A reader who does all that the pages say, in a folder like the checkout, on a platform that starts empty."""

import asyncio
import json
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.docs.pages import CHECKOUT, Command, programs, shell_commands

#: No command takes longer, however busy the machine is.
LONGEST_S: Final = 180
#: What has to happen elsewhere first is looked at again for so long.
PATIENCE_S: Final = 120
#: What the reader's folder has in common with the checkout.
_SHARED: Final = (".venv", "projects", "schemas", "tools")
#: Leaves behind what a command did to the environment, as a shell that stays open would.
_KEEP: Final = '{ %s\n} && env -0 > "$ENVIRONMENT"'


@dataclass(frozen=True)
class Ran:
    """A command that ended: what was really run, and what it said."""

    text: str
    code: int
    out: str
    complaint: str


def said(*patterns: str) -> Callable[[str], bool]:
    """Return whether an output has all these patterns, in this order."""
    return lambda out: re.search(".*?".join(patterns), out, re.DOTALL) is not None


def all_equal(out: str) -> bool:
    """Tell whether a replay compared every service's tables, and found no two that differ."""
    verdicts = [line.split() for line in out.splitlines()[1:]]
    services = {verdict[0] for verdict in verdicts}
    return len(services) == 7 and {verdict[-1] for verdict in verdicts} == {"True"}


def twenty_events(out: str) -> bool:
    """Tell whether a subscriber saw events, answers on the stream among them."""
    lines = [line.split(" ", 3) for line in out.splitlines()]
    answers = [json.loads(line[3]) for line in lines if line[1] == "mainstem.serving.predicted.v1"]
    return len(lines) == 20 and {"stream", "http", "grpc"} >= {answer["channel"] for answer in answers} >= {"stream"}


def probability(out: str) -> float:
    """Return the probability of the positive class that an answer holds; NaN when there is none."""
    found = re.search(r"\[(0\.\d+), ?(0\.\d+)\]", out)
    return float(found[2]) if found and math.isclose(float(found[1]) + float(found[2]), 1) else math.nan


@dataclass(frozen=True)
class Step:
    """What a page claims about a command."""

    holds: Callable[[str], bool]
    #: Whether what it shows comes of an event: the reader looks again until it is there.
    eventually: bool = False
    #: Where a word in capitals comes from: the word, the command that printed it, and how it looks there.
    given: tuple[str, str, str] | None = None

    def met_by(self, ran: Ran) -> bool:
        """Tell whether a command ended well and said what the page claims."""
        return ran.code == 0 and self.holds(ran.out)


#: The id of an answer whose label has come.
_ANSWER: Final = ("ID", "python subscribe.py", r"[0-9a-f]{32}(?= mainstem\.serving\.predicted\.v1 2013-01-2)")

#: The dataset that the README's version was trained on.
_DATASET: Final = ("DATASET", "mainstem dataset list", r"\b[0-9a-f]{12}\b")

_BY_ENTITY: Final = (
    "curl -s $MAINSTEM_SERVING_URL/v2/models/arrival_delay/infer -d "
    """'{"id":"call 9","inputs":[{"name":"origin","datatype":"BYTES","shape":[1],"data":["EWR"]},"""
    """{"name":"dep_delay","datatype":"INT64","shape":[1],"data":[12]}]}'"""
)

#: Every command of the pages but the targets of make, which test_documents.py holds; long ones by their first word.
STEPS: Final = {
    ". .venv/bin/activate": Step(lambda out: out == ""),
    "mainstem up": Step(said("kafka +ready", "postgres +ready", "ingestion +ready", "serving +ready", "ledger +ready")),
    ". .mainstem/env": Step(lambda out: out == ""),
    "mainstem project apply projects/flights --at 2012-12-31T00:00:00Z": Step(
        said("project +flights", "source +weather_observed", "feature set +flight_delay", "model +arrival_delay")
    ),
    "python play.py 2012-12-31T00:00:00Z 2013-01-28T00:00:00Z": Step(said("^71798 records")),
    "echo": Step(lambda out: out == ""),
    "mainstem source send weather_observed weather.ndjson": Step(said(r"weather_observed +weather\.ndjson +1 ")),
    "mainstem training start arrival_delay --at 2013-01-28T00:00:00Z --wait": Step(
        said(r"[0-9a-f]{16} +2013-01-28T00:00:00\S+ +1 +candidate")
    ),
    "mainstem model show arrival_delay 1": Step(
        said("stage +candidate", "min_auc +True", "calibration +True", "parity +True")
    ),
    "mainstem model approve arrival_delay 1 --at 2013-01-28T00:00:00Z": Step(
        said("version_approved", "version_promoted", "deployment_set +arrival_delay +1 +2013-01-28T00:00:00")
    ),
    "curl": Step(lambda out: '"model_version":"1"' in out and 0 < probability(out) < 1, eventually=True),
    "python predict.py": Step(lambda out: 0 < probability(out) < 1),
    "python play.py 2013-01-28T00:00:00Z 2013-02-02T00:00:00Z": Step(said("^13310 records")),
    "python subscribe.py": Step(twenty_events),
    "mainstem monitor show arrival_delay": Step(
        said(r"2013-01-24T\S+ +2013-01-31T\S+ +1 +2533 +2519 +0\.\d{4}"), eventually=True
    ),
    "mainstem event tail 'evt.monitoring.*' --from-beginning --limit 3": Step(
        said(*[r"evt\.monitoring\.window/0/\d +monitoring\.window_judged\.v1 +arrival_delay\n"] * 3)
    ),
    "mainstem audit verify": Step(said(r"size +\d{6}\n", r"checkpoints +\d+\n", "verdict +holds\n")),
    "mainstem audit replay": Step(all_equal, eventually=True),
    "mainstem prediction explain ID": Step(
        said("ANSWER", "the same bits", "source record", "approved by", "truth +(true|false)", "CONTRADICTIONS  none"),
        eventually=True,
        given=_ANSWER,
    ),
    "mainstem prediction replay ID": Step(said("equal +True", "ulps +0\n"), given=_ANSWER),
    "mainstem prediction explain --sample 100 --log log-copy": Step(
        said("explained +100\n", "empty +0\n", "contradictions +0\n")
    ),
    "mainstem prediction replay --sample 1000 --log log-copy": Step(
        said("replayed +1000\n", "equal +1000\n", "differing +0\n")
    ),
    "mainstem prediction explain ID --bundle answer.json > answer.txt": Step(
        lambda out: out == "", eventually=True, given=_ANSWER
    ),
    "python tools/check_explanation.py answer.json $MAINSTEM_LOG_VKEY $MAINSTEM_WITNESS_VKEY": Step(
        said(r"holds +\d+ entries", r"holds +\d+ fields", "approved and activated before")
    ),
    "mainstem feature diff --feature-set flight_delay": Step(
        said("rows +27249\n", "cells +408735\n", "differing +0\n", "unknown +0\n", "missing +0\n")
    ),
    "mainstem feature show flight_delay wind": Step(
        said("weather_observed", r"wind", r"last\(", "arrival_delay", "production")
    ),
    "mainstem dataset list": Step(
        said("[0-9a-f]{12} ", "built +arrival_delay +flight_delay +2013-01-28T00:00:00", " 22716 ")
    ),
    "mainstem audit export log-copy --artifacts": Step(said(r"size +\d{6}\n", r"withheld +0\n", r"artifacts +\d+\n")),
    "mainstem down": Step(lambda out: out == ""),
    "mainstem audit verify log-copy --log-key .mainstem/keys/log.vkey --witness-key .mainstem/keys/witness.vkey": Step(
        said(r"size +\d{6}\n", "cosigned by +mainstem.local/witness\n", r"entries +\d{6} read, 0 withheld\n", "holds\n")
    ),
    "mainstem audit prove log-copy 1000 > entry.proof": Step(lambda out: out == ""),
    "python third_party.py log-copy .mainstem/keys/log.vkey .mainstem/keys/witness.vkey": Step(
        said(r"^\d{6} entries, 1000 inclusion and 200 consistency proofs: accepted")
    ),
    "mainstem audit origins arrival_delay/1 --log log-copy": Step(
        said("record +", "accepted +", "row +", "dataset +1 ", "run +")
    ),
    "mainstem audit impact src.weather_observed/0/1073 --log log-copy": Step(
        said(r"row +\d\d", "dataset +1 ", "version +1 ", "prediction +", "windows_not_followed +none\n")
    ),
    "mainstem audit impact arrival_delay/1 --log log-copy": Step(
        said("approval +1 ", "deployment +1 ", "prediction +")
    ),
    "mainstem audit absent arrival_delay/1 src.harbour --log log-copy --log-key .mainstem/keys/log.vkey": Step(
        said("proven +True\n", "absent +True\n", "signature +signed by mainstem.local/log\n")
    ),
    "mainstem audit as-of --at 2013-01-30T00:00:00Z --log log-copy": Step(said("production\n +arrival_delay +1\n")),
    "mainstem audit diff 100000 120000 --log log-copy": Step(said("nodes\n", "accepted +", "edges\n")),
    "mainstem audit lineage openlineage lineage.ndjson --log log-copy": Step(lambda out: out == ""),
    "mainstem audit seal --before 2100-01-01": Step(
        said("first_leaf +0\n", r"end_leaf +\d{6}\n", r"segments +\d\n", r"bytes +\d{7}")
    ),
    _BY_ENTITY: Step(lambda out: '"age_s.weather_observed":' in out and 0 < probability(out) < 1, eventually=True),
    "mainstem prediction batch arrival_delay --dataset DATASET --out scored.parquet": Step(
        said("rows +22716\n", "unrecorded +0\n", "versions +1: 22716\n", "unsure +0\n"), given=_DATASET
    ),
    "mainstem audit verify -o json": Step(said('"holds": true')),
    "rm": Step(lambda out: out == ""),
    "mainstem up --servers-only": Step(said("kafka +ready", "postgres +ready")),
    "mainstem audit restore log-copy": Step(
        said(r"size +\d{6}\n", r"topics +\d+\n", r"tables +39\n", r"artifacts +\d+\n")
    ),
    "mainstem down && mainstem up": Step(said("ingestion +ready", "serving +ready", "ledger +ready")),
    "mainstem audit replay log-copy": Step(all_equal, eventually=True),
}


def step_of(command: Command) -> Step:
    """Return what is known of a command; raise KeyError when it is new."""
    return STEPS[command.text if command.text in STEPS else command.text.partition(" ")[0]]


def to_run() -> list[Command]:
    """Return the commands of the pages in reading order, the targets of make left out."""
    return [command for command in shell_commands() if not command.text.startswith("make ")]


@dataclass
class Walk:
    """One reader's way through the pages; commands run once, in their order, when somebody wants to know of them."""

    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    ran: dict[str, Ran] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make the folder, and save every program of the pages."""
        cache = CHECKOUT / ".mainstem" / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        (self.folder / ".mainstem").mkdir()
        (self.folder / ".mainstem" / "cache").symlink_to(cache)
        for name in _SHARED:
            (self.folder / name).symlink_to(CHECKOUT / name)
        for name, text in programs().items():
            (self.folder / name).write_text(text)

    async def reach(self, wanted: Command) -> Ran:
        """Return what came of a command, when all before it were run; none is run behind one that failed."""
        for command in to_run():
            if command.text not in self.ran:
                self.ran[command.text] = await asyncio.to_thread(self._follow, command)
            ran = self.ran[command.text]
            if command == wanted:
                return ran
            if not step_of(command).met_by(ran):
                return Ran(wanted.text, 1, "", f"not run: {command.place} failed before it")
        raise ValueError(f"{wanted.place}: no page has {wanted.text!r}")

    def run(self, text: str) -> Ran:
        """Run a command now."""
        kept = self.folder / "environment"
        environment = {**self.environment, "ENVIRONMENT": str(kept)}
        with subprocess.Popen(
            ("sh", "-c", _KEEP % text),
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as shell:
            try:
                out, complaint = shell.communicate(timeout=LONGEST_S)
            except subprocess.TimeoutExpired:
                os.killpg(shell.pid, signal.SIGKILL)
                out, complaint = shell.communicate()
        if shell.returncode == 0:
            self.environment = dict(line.split("=", 1) for line in kept.read_text().split("\0") if line)
        return Ran(text, shell.returncode, out, complaint)

    def _follow(self, command: Command) -> Ran:
        step, text = step_of(command), command.text
        if step.given:
            word, source, pattern = step.given
            found = re.search(pattern, self.ran[source].out)
            text = re.sub(rf"\b{word}\b", found[0] if found else word, text)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            ran = self.run(text)
            if step.met_by(ran):
                return ran
            if not step.eventually or time.monotonic() > deadline:
                return replace(ran, complaint=f"{ran.complaint}\n{self.run('mainstem logs -n 10').out}")
