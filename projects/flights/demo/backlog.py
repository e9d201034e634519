"""How far the platform is behind, asked from the outside."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import httpx
from prometheus_client.parser import text_string_to_metric_families

from mainstem.bus.reader import LogReader
from mainstem.events.data import ProgressReached
from mainstem.events.instants import parse
from mainstem.events.record import Record

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


async def checked(env: Mapping[str, str], feature_set: str, until_us: int) -> int:
    """Wait until the rows of a feature set were checked up to an instant; return how many events tell of it.

    Raises TimeoutError when the check does not come so far.
    """
    found: dict[str, float] = {}
    try:
        async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(base_url=env["MAINSTEM_FEATURES_URL"]) as client:
            # The last marker is a microsecond short of the end, and a float of seconds is about as fine as that.
            while found.get("mainstem_check_time_seconds", 0.0) * 1e6 < until_us - 10:
                await asyncio.sleep(0.2)
                found = await _metrics(client, feature_set)
    except TimeoutError as fault:
        raise TimeoutError(
            f"the rows of {feature_set} were not checked to the end within {PATIENCE_S} s; see `mainstem logs features`"
        ) from fault
    return int(found["mainstem_checks_told"])


async def _metrics(client: httpx.AsyncClient, feature_set: str) -> dict[str, float]:
    """Return the metrics of a feature set; none while the service is on its way back."""
    try:
        text = (await client.get("/metrics")).text
    except httpx.TransportError:
        return {}
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: sample.value for sample in samples if sample.labels.get("feature_set") == feature_set}
