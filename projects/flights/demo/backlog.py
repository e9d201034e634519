"""How far the platform is behind, asked from the outside."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from mainstem.bus.reader import LogReader
from mainstem.events.catalogue import Record
from mainstem.events.data import ProgressReached
from mainstem.events.instants import parse

#: A platform that takes longer for what was sent is stuck.
PATIENCE_S = 300
#: Direct calls may stand behind the last announcement, this many at most.
_LAST = 2_500


async def watch_backlog(bootstrap: str, topics: tuple[str, str], tell: Callable[[int], None]) -> None:
    """Tell by how many records the second topic is behind the first, about once a second, until cancelled."""
    ahead, behind = topics
    async with LogReader(bootstrap, topics) as reader:
        await reader.start()
        while True:
            ends: Counter[str] = Counter()
            for (topic, _), end in (await reader.ends()).items():
                ends[topic] += end
            tell(ends[ahead] - ends[behind])
            await asyncio.sleep(1)


async def rest(bootstrap: str, topics: Sequence[str], until_us: int) -> None:
    """Wait until the announcement that all before an instant is in it stands near the end of every partition.

    Raises TimeoutError naming the topics that do not.
    """
    behind = set(topics)
    try:
        async with asyncio.timeout(PATIENCE_S), LogReader(bootstrap, topics) as reader:
            while behind := await _unfinished(reader, until_us):  # noqa: ASYNC110  (others write)
                await asyncio.sleep(0.2)
    except TimeoutError as fault:
        names = ", ".join(sorted(behind))
        raise TimeoutError(
            f"{names} did not take in all that was sent within {PATIENCE_S} s; see `mainstem logs`"
        ) from fault


async def _unfinished(reader: LogReader, until_us: int) -> set[str]:
    """Return the topics with a partition in whose last records the announcement does not stand."""
    await reader.start()
    ends = await reader.ends()
    await reader.start({place: max(0, end - _LAST) for place, end in ends.items()})
    finished = dict.fromkeys(ends, False)
    async for records in reader.to_end():
        finished |= {(record.topic, record.partition): True for record in records if _announces(record, until_us)}
    return {topic for (topic, _), done in finished.items() if not done}


def _announces(record: Record, until_us: int) -> bool:
    if dict(record.headers)["ce_type"] != ProgressReached.TYPE.encode():
        return False
    return parse(ProgressReached.model_validate_json(record.value or b"").until) >= until_us - 1
