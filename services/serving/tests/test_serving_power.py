"""A power cut while callers are answered: the disk has what was synced, and nothing else that was written."""

import asyncio
import os
from contextlib import AsyncExitStack
from functools import partial
from itertools import pairwise
from random import Random
from stat import S_ISDIR
from time import monotonic

import httpx
import orjson
import pytest

from mainstem.bus.spool import SYNC_S, Spool, keep_synced
from mainstem.bus.spool_tail import Tail
from mainstem.serving.blocks import unpack
from mainstem.testkit.waiting import running

ANSWERS, CALLERS, CUTS = 1_500, 8, 40
BODY = orjson.dumps({"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}]})


class Disk:
    """What a power cut would leave: of each file as much, and of each folder the names, as was there at its last sync.

    A file that was not synced is empty, and one that stands under no synced name, or below a folder that does not, is
    gone. The folder `root` alone was there before.
    """

    def __init__(self, monkeypatch, root):
        #: By inode: bytes of a file, names in a folder.
        self._bytes = {}
        self._names = {root.stat().st_ino: {}}
        #: From when to when syncs of files took.
        self._syncs = []
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, partial(self._synced, getattr(os, name)))

    def _synced(self, sync, handle):
        began, there = monotonic(), os.fstat(handle)
        if S_ISDIR(there.st_mode):
            with os.scandir(handle) as entries:
                names = {entry.name: entry.inode() for entry in entries}
            sync(handle)
            self._names[there.st_ino] = names
        else:
            sync(handle)
            self._bytes[there.st_ino] = there.st_size
            self._syncs.append((began, monotonic()))

    def left(self, folder, to):
        """Copy what a cut at this moment would leave of a folder, of which nothing was removed."""
        to.mkdir(parents=True)
        if folder.stat().st_ino in self._names.get(folder.parent.stat().st_ino, {}).values():
            files = {file.stat().st_ino: file for file in folder.iterdir()}
            for name, inode in self._names.get(folder.stat().st_ino, {}).items():
                (to / name).write_bytes(files[inode].read_bytes()[: self._bytes.get(inode, 0)])
        return to

    def longest_s(self, since):
        """Return the longest time for which an append had to wait until a sync that began after it was over."""
        syncs = [(since, since), *((began, ended) for began, ended in self._syncs if began > since)]
        return max(ended - before for (before, _), (_, ended) in pairwise(syncs))


def recovered(folder):
    """Return the ids of all answers that a spool has when it is opened again."""
    Spool(folder, 1 << 24).close()
    tail, number, found = Tail(folder), 0, []
    while blocks := tail.read(number):
        found += [message for block in blocks for message in unpack(tail.incarnation, block)]
        number = blocks[-1].first + blocks[-1].count
    ids = [dict(message.headers)["ce_id"].decode() for message in found]
    assert len(set(ids)) == len(ids)
    return set(ids)


class Callers:
    """Ask one after the other on some connections; the power is cut, for the disk's copies, at random moments."""

    def __init__(self, door, disk, folder, copies):
        self._url = f"http://{door}/v2/models/storm/infer"
        self._disk, self._folder, self._copies = disk, folder, copies
        self._moments = set(Random(7).sample(range(1, ANSWERS), CUTS))
        #: When which answer came.
        self.answered = {}
        #: What had been answered at each cut, when that was, and what it left.
        self.cuts = []

    async def ask(self):
        async with httpx.AsyncClient(timeout=20) as client:
            while len(self.answered) < ANSWERS:
                answer = (await client.post(self._url, content=BODY)).raise_for_status().json()
                self.answered[answer["parameters"]["prediction_id"]] = monotonic()
                if len(self.answered) in self._moments:
                    left = self._disk.left(self._folder, self._copies / str(len(self.cuts)))
                    self.cuts.append((dict(self.answered), monotonic(), left))

    def lost(self):
        """Return how old the answers were (s) that cuts cost."""
        return [at - answered[each] for answered, at, left in self.cuts for each in answered.keys() - recovered(left)]


@pytest.fixture(params=[False, True], ids=["tick", "each"])
def sync_each(request):
    """Tell whether every block is synced, or what is there is now and then."""
    return request.param


@pytest.fixture
def disk(monkeypatch, tmp_path):
    """What is synced from before the spool is made on."""
    return Disk(monkeypatch, tmp_path)


@pytest.fixture
def spool(sync_each, disk, tmp_path):
    opened = Spool(tmp_path / "spool", 1 << 24, sync_each=sync_each)
    yield opened
    opened.close()


async def test_a_power_cut_costs_no_answer_where_each_is_synced_and_else_the_youngest_alone(
    service, door, disk, sync_each, tmp_path, figures
):
    await service.deploy()
    callers, began = Callers(door, disk, tmp_path / "spool", tmp_path / "left"), monotonic()
    async with AsyncExitStack() as stack:
        if not sync_each:
            await stack.enter_async_context(running(keep_synced(service.spool)))
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(callers.ask())
    longest_s, lost = disk.longest_s(began), callers.lost()
    assert len(callers.cuts) == CUTS
    if sync_each:
        assert lost == []
    else:  # such a cut is seen; no answer is lost that is older than a sync is waited for
        assert 0 < max(lost) <= longest_s
        figures(f"a power cut: {max(lost):.3f} s of answers lost; syncs {longest_s:.3f} s apart, of {SYNC_S}")
