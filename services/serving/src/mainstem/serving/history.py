"""What earlier processes published, read from the log."""

from mainstem.bus.reader import LogReader
from mainstem.events.catalogue import header
from mainstem.events.fence import read_origin

_FIRST_STRETCH = 1_000


async def last_published(bootstrap: str, topic: str, cause: str) -> dict[int, int]:
    """Return for each partition of `topic` the highest offset of `cause` that an event was derived from, -1 for none.

    Reads backwards in growing stretches, since direct answers may stand behind the last one. Raises Unavailable.
    """
    stream, back = f"{cause}/", _FIRST_STRETCH
    async with LogReader(bootstrap, [topic]) as reader:
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
