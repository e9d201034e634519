"""What the platform's own commands say: they verify and replay the ledger, and explain what is in it."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from mainstem.bus.admin import topic_names
from mainstem.bus.reader import LogReader

#: The archive follows the log within seconds.
PATIENCE_S = 120
#: The ledger's own checkpoints are entries too, so it never catches up with these.
_OWN = "evt.ledger."


@dataclass(frozen=True, slots=True)
class Output:
    """What a command printed, and whether it ended well."""

    command: str
    done: bool
    text: str

    def lines(self, most: int) -> list[str]:
        """Return the first lines that are not empty."""
        return [line for line in self.text.splitlines() if line.strip()][:most]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the audit of the ledger found, and the lines that say so, by command."""

    entries: int
    root: str
    verified: bool
    replay_equal: bool
    tables: int
    quoted: Mapping[str, list[str]]

    def summary(self) -> dict[str, Any]:
        """Return the ledger's part of the summary."""
        names = ("entries", "root", "verified", "replay_equal", "tables")
        return {name: getattr(self, name) for name in names}


async def audit_ledger() -> Ledger:
    """Have the archive verified, and the services' tables rebuilt from it."""
    verified, replayed = await asyncio.gather(
        mainstem("audit", "verify", "-o", "json"), mainstem("audit", "replay", "-o", "json")
    )
    tree: dict[str, Any] = json.loads(verified.text) if verified.done else {"size": 0, "root": "", "holds": False}
    tables = json.loads(replayed.text)["tables"] if replayed.done else []
    equal = bool(tables) and all(table["equal"] for table in tables)
    quoted = {verified.command: verified.lines(6), replayed.command: replayed.lines(6)}
    if verified.done:
        size, checkpoints = f"{tree['size']:,} entries", f"{tree['checkpoints']:,} checkpoints"
        quoted[verified.command] = [f"{size}, {checkpoints}, root {tree['root']}: holds"]
    if replayed.done:
        services = Counter(table["service"] for table in tables)
        counted = ", ".join(f"{service} {count}" for service, count in services.items())
        quoted[replayed.command] = [f"tables rebuilt from the archive alone: {counted}: all equal"]
    return Ledger(tree["size"], tree["root"], tree["holds"], equal, len(tables), quoted)


async def examples(prediction: str) -> dict[str, list[str]]:
    """Return how refused records look, and what a prediction rests on: what the commands say, by command."""
    refused, explained = await asyncio.gather(
        mainstem("quarantine", "list", "--limit", "3"), mainstem("prediction", "explain", prediction, "-o", "json")
    )
    chain = _chain(json.loads(explained.text)) if explained.done else explained.lines(6)
    return {refused.command: refused.lines(4), explained.command: chain}


async def replayed(count: int) -> tuple[int, dict[str, list[str]]]:
    """Have answers chosen by chance given again from the archive; return how many have other bits, and what it said.

    When the command fails at all, so many are all.
    """
    done = await mainstem("prediction", "replay", "--sample", str(count), "-o", "json")
    try:
        (facts,) = json.loads(done.text.partition("\n]")[0] + "]")
    except ValueError:
        return count, {done.command: done.lines(6)}
    equal = f"{facts['equal']:,} of {facts['replayed']:,} answers of {facts['models']} models"
    said = f"{equal} have the bits that were served"
    return int(facts["differing"]), {done.command: [said]}


def _chain(story: Mapping[str, Any]) -> list[str]:
    """Return the links of a prediction's story with their leaves in the ledger's tree, and what is missing."""
    links = " ← ".join(f"{link['name']} {link['leaf']:,}" for link in story["links"])
    return [links, "not told: " + (", ".join(story["gaps"]) or "nothing")]


async def mainstem(*arguments: str) -> Output:
    """Run a command of the platform; what it says on stderr counts when it fails."""
    program = Path(sys.executable).with_name("mainstem")
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, complaint = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    said = out if process.returncode == 0 else out + complaint
    return Output(f"mainstem {' '.join(arguments)}", process.returncode == 0, said.decode(errors="replace"))


async def archived(env: Mapping[str, str]) -> list[str]:
    """Wait until the ledger holds all that stands in the log; return what it does not hold after `PATIENCE_S`."""
    topics = [name for name in await topic_names(env["MAINSTEM_KAFKA"]) if not name.startswith(_OWN)]
    try:
        async with (
            asyncio.timeout(PATIENCE_S),
            LogReader(env["MAINSTEM_KAFKA"], topics) as reader,
            httpx.AsyncClient(base_url=env["MAINSTEM_LEDGER_URL"], timeout=30) as client,
        ):
            await reader.start()
            return await _wait_for_archive(reader, client)
    except TimeoutError:
        return [f"the ledger does not hold the whole log after {PATIENCE_S} s"]


async def _wait_for_archive(reader: LogReader, client: httpx.AsyncClient) -> list[str]:
    while True:
        ends: Counter[str] = Counter()
        for (topic, _), end in (await reader.ends()).items():
            ends[topic] += end
        counts = (await client.get("/v1/ledger")).json()["topics"]
        held = {one["topic"]: one["entries"] + one["second_copies"] for one in counts}
        if all(held.get(topic, 0) >= end for topic, end in ends.items()):
            return []
        await asyncio.sleep(0.25)
