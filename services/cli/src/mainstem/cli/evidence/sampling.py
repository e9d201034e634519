"""Answers chosen by chance, the same ones for the same seed and log."""

from random import Random
from typing import Final

from mainstem.cli.evidence.archive import Archive, Found, events
from mainstem.events.errors import Rejected
from mainstem.events.frames import unframe
from mainstem.events.serving import Predicted
from mainstem.ledger_service.domain import Placed

_BATCH: Final = 500


async def sample(archive: Archive, count: int, seed: int) -> list[Found[Predicted]]:
    """Return so many answers, or all when there are fewer. Raises Rejected when there is none."""
    leaves = list(await archive.predictions())
    Random(seed).shuffle(leaves)
    found: dict[str, Found[Predicted]] = {}
    for at in range(0, len(leaves), _BATCH):
        batch = leaves[at : at + _BATCH]
        placed = [Placed(leaf, unframe(frame)) for leaf, frame in zip(batch, await archive.frames(batch), strict=True)]
        for answer in events(Predicted, placed):
            found.setdefault(answer.envelope.id, answer)
        if len(found) >= count:
            break
    if not found:
        raise Rejected("there is no answer in the archive; predict something first")
    return list(found.values())[:count]
