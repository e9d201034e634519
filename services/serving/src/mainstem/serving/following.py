"""Keeps a lookup at the end of the log."""

import asyncio
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from mainstem.bus.identity import log_identity
from mainstem.bus.reader import LogReader
from mainstem.events.errors import Unavailable
from mainstem.events.record import Record
from mainstem.feature_engine import SnapshotError, prepare
from mainstem.fold.gap import Gap
from mainstem.project.definition import parse
from mainstem.serving.domain import Followed
from mainstem.serving.lookup import Lookup
from mainstem.telemetry import logger

#: So many records are applied before the loop is given back: a millisecond or two.
_AT_ONCE: Final = 500
#: Partitions are read in step: what of one is read before its turn is kept, and memory that was taken stays taken.
_FETCH_BYTES: Final = 64 << 10
_STORE_S: Final = 60.0
#: What is gone shows by itself where records follow; elsewhere it is looked for.
_LOOK_S: Final = 2.0
_AGAIN_S: Final = 1.0
#: Of SHA-256.
_DIGEST_BYTES: Final = 32

_log = logger(__name__)


class _Stored(msgspec.Struct):
    """A fold, and the ids of the topics that it was made of."""

    topics: Mapping[str, str]
    state: bytes


class Following:
    """One lookup, the file that keeps its fold, and the log."""

    def __init__(self, followed: Followed, file: Path) -> None:
        prepare()
        self.lookup = Lookup(parse(followed.project), followed.feature_set)
        self._label = followed.feature_set
        self._file = file
        self._stored_at = time.monotonic()
        #: Ids of the topics that the fold is made of.
        self._topics: Mapping[str, str] = {}

    async def run(self, kafka: str) -> None:
        """Follow until cancelled, or until records or topics are gone; the lookup says then why it does not answer."""
        while True:
            try:
                return await self._follow(kafka)
            except Unavailable as fault:
                _log.warning("the log is not followed for %s: %s", self._label, fault, extra={"action": "not_followed"})
                await asyncio.sleep(_AGAIN_S)
            except Gap as gap:
                self.lookup.fault = str(gap)
                _log.error("%s cannot be looked up: %s", self._label, gap, extra={"action": "gap"})
                return None

    async def _follow(self, kafka: str) -> None:
        topics = (await log_identity(kafka, self.lookup.sources)).topics
        if not self._topics:
            await self._restore(topics)
        elif topics != self._topics:
            self.lookup.fault = "its topics were made anew; restart serving, which begins at their beginning then"
            return
        async with LogReader(kafka, self.lookup.topics, _FETCH_BYTES) as reader:
            await reader.start(self.lookup.offsets())
            async for records in reader.to_end():
                await self._take(records, reader)
            self.lookup.emptied(await reader.emptied())
            self.lookup.fault = None
            looked_at = time.monotonic()
            while True:
                records = await reader.poll(_AT_ONCE)
                await self._take(records, reader)
                if time.monotonic() - looked_at > _LOOK_S:
                    self.lookup.emptied(await reader.emptied())
                    looked_at = time.monotonic()
                if time.monotonic() - self._stored_at > _STORE_S:
                    await self._store(topics)

    async def _take(self, records: list[Record], reader: LogReader) -> None:
        for begin in range(0, len(records), _AT_ONCE):
            self.lookup.take(records[begin : begin + _AT_ONCE])
            await asyncio.sleep(0)
        reader.hold_off(self.lookup.ahead())

    async def _restore(self, topics: Mapping[str, str]) -> None:
        """Go on from the file, if it is of these topics."""
        self._topics = topics
        try:
            content = await asyncio.to_thread(lambda: _opened(self._file.read_bytes()))
            stored = msgspec.msgpack.decode(content, type=_Stored)
            if stored.topics == topics:
                self.lookup.restore(stored.state)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, SnapshotError) as fault:
            _log.warning("%s is not read, the log is: %s", self._file, fault, extra={"action": "not_restored"})

    async def _store(self, topics: Mapping[str, str]) -> None:
        self._stored_at = time.monotonic()
        content = msgspec.msgpack.encode(_Stored(topics, self.lookup.snapshot()))
        try:
            await asyncio.to_thread(lambda: _replace(self._file, _sealed(content)))
        except OSError as fault:
            _log.warning("the fold of %s was not stored: %s", self._label, fault, extra={"action": "not_stored"})


def _sealed(content: bytes) -> bytes:
    """Return bytes as they are stored: behind their SHA-256, since a fold that was damaged says nothing of it."""
    return sha256(content).digest() + content


def _opened(stored: bytes) -> bytes:
    """Return the bytes that were stored; raise SnapshotError when they are others by now."""
    content = stored[_DIGEST_BYTES:]
    if _sealed(content) != stored:
        raise SnapshotError("its bytes are others than were written")
    return content


def _replace(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.new")
    partial.write_bytes(content)
    partial.replace(file)
