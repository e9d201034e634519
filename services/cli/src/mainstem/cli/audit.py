"""Whether the archive is as it was written, and as it was signed."""

from pathlib import Path

from mainstem.audit.verification import Keys
from mainstem.cli.archive import open_archive
from mainstem.cli.connection import setting
from mainstem.cli.progress import bar
from mainstem.ledger_service.attested import Attested, Published
from mainstem.ledger_service.engine import Audit, Verdict
from mainstem.ledger_service.store import Snapshot


async def verify(keys: Keys) -> Verdict:
    """Read every block, hash every entry again, and hold all of it against what was signed and published."""
    async with open_archive() as store:
        async with store.snapshot() as before:
            newest = max((row.size for row in await before.checkpoints()), default=0)
        published = Published(Path(setting("MAINSTEM_LOG")), newest)
        async with store.snapshot() as archive:
            return await _audited(archive, Attested(keys, await archive.checkpoints(), published))


async def _audited(archive: Snapshot, attested: Attested) -> Verdict:
    state = await archive.state()
    audit = Audit(attested)
    with bar("verifying", state.frontier.size) as advance:
        async for block in archive.blocks():
            audit.take(block)
            advance(block.count)
    return audit.finish(state.frontier)
