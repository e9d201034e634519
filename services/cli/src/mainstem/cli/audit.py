"""Whether the archive is as it was written."""

from mainstem.cli.archive import open_archive
from mainstem.cli.progress import bar
from mainstem.ledger_service.engine import Audit, Verdict


async def verify() -> Verdict:
    """Read every block and hash every entry again."""
    async with open_archive() as store, store.snapshot() as archive:
        state = await archive.state()
        audit = Audit()
        with bar("verifying", state.frontier.size) as advance:
            async for block in archive.blocks():
                audit.take(block)
                advance(block.count)
        return audit.finish(state.frontier)
