"""What earlier processes published, and how late it was, read from the log."""

from collections.abc import Mapping

from mainstem.bus.reader import LogReader
from mainstem.events.fence import read_origin
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER
from mainstem.events.record import header

_FIRST_STRETCH = 1_000


class Past:
    """Keeps the promises of `ports.Past` on a broker."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def published(self, prediction_topic: str, feature_topic: str) -> Mapping[int, int]:
        """Read backwards in growing stretches, since direct answers may stand behind the last one."""
        stream, back = f"{feature_topic}/", _FIRST_STRETCH
        async with LogReader(self._bootstrap, [prediction_topic]) as reader:
            await reader.start()
            ends = await reader.ends()
            while True:
                starts = {place: max(0, end - back) for place, end in ends.items()}
                await reader.start(starts)
                found = {number: -1 for _, number in ends}
                async for records in reader.to_end():
                    for record in records:
                        known = read_origin(header(record, "ce_origin") or b"")
                        if known is not None and known[0].startswith(stream):
                            found[record.partition] = max(known[1], found[record.partition])
                if all(found[place[1]] >= 0 or start == 0 for place, start in starts.items()):
                    return found
                back *= 8

    async def latest(self, feature_topic: str, spans: Mapping[int, range]) -> int:
        """Read from the first offset that is asked for."""
        latest = NEVER
        async with LogReader(self._bootstrap, [feature_topic]) as reader:
            await reader.start()
            ends = await reader.ends()
            await reader.start(ends | {(feature_topic, number): span.start for number, span in spans.items()})
            async for records in reader.to_end():
                texts = [
                    header(record, "ce_recordedtime") or b""
                    for record in records
                    if record.offset in spans.get(record.partition, ())
                ]
                latest = max([latest, *parse_all(texts).tolist()])
        return latest
