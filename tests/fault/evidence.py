"""What the ledger of a platform promises, held against what it wrote: read from outside, with the public keys."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader

from mainstem.audit.log import Log
from mainstem.audit.verification import Keys
from mainstem.bus.reader import LogReader
from mainstem.cli import audit
from mainstem.cli.local.platform import Platform
from mainstem.cli.signatures import read_keys
from mainstem.events.catalogue import decode
from mainstem.events.ledger import CheckpointPublished
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.note import Note


async def checkpoints_held(platform: Platform) -> int:
    """Return how many checkpoints were told of on the bus, once each of them was held against what is published.

    Each is signed, cosigned, and over a prefix of the published tree, which another program reads too; the witness
    remembers no less; and the archive is dense and as it was signed.
    """
    env = platform.env
    keys = read_keys(env["MAINSTEM_LOG_VKEY"], [env["MAINSTEM_WITNESS_VKEY"]])
    told = await _told(env["MAINSTEM_KAFKA"])
    _check_published(Path(env["MAINSTEM_LOG"]), keys, told)
    _check_memory(Path(env["MAINSTEM_WITNESS_STATE"]), keys, told)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MAINSTEM_DATABASE_URL", "MAINSTEM_LOG"):
            patch.setenv(name, env[name])
        verdict = await audit.verify(keys)
    assert verdict.faults == ()
    assert verdict.signed >= max(Checkpoint.parse(note.text).size for note in told)
    return len(told)


async def _told(kafka: str) -> list[Note]:
    """Return the checkpoints that were told of, those told twice too."""
    found = []
    async with LogReader(kafka, [CheckpointPublished.TOPIC]) as reader:
        await reader.start()
        async for records in reader.to_end():
            facts = [decode(record).fact for record in records]
            found += [Note.parse((fact.note or "").encode()) for fact in facts if isinstance(fact, CheckpointPublished)]
    return found


def _check_published(folder: Path, keys: Keys, told: Sequence[Note]) -> None:
    log = Log(folder)
    tree, theirs = log.tree(), TilesReader(LocalBackend(folder))
    theirs.set_size(log.size)
    assert theirs.calculate_root_hash() == tree.root() == log.checkpoint.root
    for note in (*told, log.note):
        assert set(note.signed_by([keys.log])) | set(note.signed_by(keys.witnesses)) == {keys.log, *keys.witnesses}
        said = Checkpoint.parse(note.text)
        assert (said.origin, said.root) == (keys.log.name, tree.root(said.size))


def _check_memory(folder: Path, keys: Keys, told: Sequence[Note]) -> None:
    (file,) = folder.glob("*.checkpoint")
    note = Note.parse(file.read_bytes())
    note.signed_by(keys.witnesses)
    assert Checkpoint.parse(note.text).size >= max(Checkpoint.parse(each.text).size for each in told)
