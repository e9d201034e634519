"""The spools of the workers, and those that earlier workers left: found and taken over."""

import asyncio
from contextlib import closing
from pathlib import Path

from mainstem.bus.spool import Spool, SpoolBusy
from mainstem.serving.domain import spool_name
from mainstem.telemetry import metrics

#: Workers of a service that was killed have this long to answer what they had taken.
_LEAVING_S = 10.0
_POLL_S = 0.05


async def take_over(folder: Path, workers: int) -> list[Path]:
    """Return the spool of each worker, made if it is missing, and then what else was left; nobody appends to any.

    Raises SpoolCorrupt, and SpoolBusy when another service has one of them.
    """
    own = [folder / str(number) for number in range(workers)]
    left = [each for each in _folders(folder) if each not in own]
    for spool in own + left:
        await _recover(spool)
    return own + left


def _folders(folder: Path) -> list[Path]:
    """Return every spool there is at a folder and below it: one process alone had its blocks in the folder itself."""
    return sorted(file.parent for file in folder.rglob("incarnation"))


async def _recover(folder: Path) -> None:
    """Open a spool once, when nobody has it any more, and tell what it holds."""
    until = asyncio.get_running_loop().time() + _LEAVING_S
    while True:
        try:
            with closing(Spool(folder, 1 << 62)) as spool:
                metrics.RECORDED.labels(spool_name(spool.incarnation)).set(spool.next_number)
                return
        except SpoolBusy:
            if asyncio.get_running_loop().time() > until:
                raise
            await asyncio.sleep(_POLL_S)
