"""The spools of the workers, and those that earlier workers left: found, taken over, or set aside when broken."""

import asyncio
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

from mainstem.bus.spool import Spool, check
from mainstem.bus.spool_folder import SpoolBusy, SpoolCorrupt, sync_folder
from mainstem.bus.spool_tail import Tail
from mainstem.serving.domain import spool_name
from mainstem.telemetry import logger, metrics

#: Workers of a service that was killed have this long to answer what they had taken.
_LEAVING_S = 10.0
_POLL_S = 0.05
#: Stands, with a number behind it, in the name of a folder that was set aside.
_BROKEN = ".broken-"

_log = logger(__name__)


async def take_over(folder: Path, workers: int) -> list[Path]:
    """Return the spool of each worker, made if it is missing, and then what else was left; nobody appends to any.

    One that cannot be read stops nobody: it is set aside as it is, under a name that says so, and its worker begins
    another. It is returned, too: what stands before its break is sent, and all of it once its bytes are back. Raises
    SpoolBusy when another service has one of them, and SpoolEarlier.
    """
    own = [folder / str(number) for number in range(workers)]
    left, broken = [], []
    for spool in own + [each for each in _folders(folder) if each not in own]:
        try:
            if _BROKEN in spool.name:
                check(spool)  # nothing of it is cut off while a byte of it is not what it was
            await _recover(spool)
        except SpoolCorrupt as fault:
            broken.append(_set_aside(spool, fault, apart=spool != folder))
            if spool in own:
                await _recover(spool)
        else:
            left += [] if spool in own else [spool]
    metrics.SPOOLS_BROKEN.set(len(broken))
    return own + left + broken


async def renew(spool: Path, why: str | None) -> Path | None:
    """Set aside the spool of a worker that has ended if it is broken, as it is if somebody says why, and make another.

    Return where it lies then; None when it is as it was, or somebody has moved it away. Raises OSError, or SpoolBusy;
    then it is as it was, too.
    """
    try:
        if why is not None:
            raise SpoolCorrupt(why)
        await _recover(spool)
    except SpoolCorrupt as fault:
        aside = None
        with suppress(FileNotFoundError):  # it was moved away
            aside = _set_aside(spool, fault, apart=True)
            metrics.SPOOLS_BROKEN.inc()
        with suppress(OSError, SpoolCorrupt, SpoolBusy):  # the worker makes it, as soon as the disk takes it
            await _recover(spool)
        return aside
    return None


def _folders(folder: Path) -> list[Path]:
    """Return every spool there is at a folder and below it: one process alone had its blocks in the folder itself."""
    return sorted({file.parent for what in ("incarnation", "*.blocks") for file in folder.rglob(what)})


def _set_aside(spool: Path, fault: SpoolCorrupt, *, apart: bool) -> Path:
    """Say that a spool is broken, by its name, too, unless others lie in it; return where it lies then."""
    aside = spool
    if apart and _BROKEN not in spool.name:
        names = (spool.with_name(f"{spool.name}{_BROKEN}{number}") for number in count(1))
        aside = spool.rename(next(each for each in names if not each.exists()))
        with suppress(OSError):
            sync_folder(aside.parent)
    _log.critical(
        "the spool %s is broken, and lies in %s now: %s; what can be read of it is sent; see the runbook spool",
        *(spool, aside, str(fault).replace(str(spool), str(aside))),
        extra={"action": "spool_corrupt", "spool": str(aside)},
    )
    with suppress(SpoolCorrupt, OSError):  # without its name nothing of it is sent
        tail = Tail(aside)
        metrics.RECORDED.labels(spool_name(tail.incarnation)).set(tail.end())
    return aside


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
