"""A copy of the log as an archive: no database, no service."""

from collections.abc import Sequence
from pathlib import Path

from mainstem.audit.log import Log
from mainstem.audit.verification import Keys
from mainstem.cli.evidence.archive import HISTORY, PREDICTIONS, Chronicle, Found, ReadSet
from mainstem.cli.evidence.columns import Columns
from mainstem.cli.evidence.index import Index
from mainstem.cli.signatures import check, keys_at_hand
from mainstem.events.data import RecordAccepted
from mainstem.events.errors import Rejected
from mainstem.events.record import header
from mainstem.ledger.note import Note
from mainstem.ledger_service.domain import Placed, id_key


class LogProofs:
    """Proofs from the tiles of a log."""

    def __init__(self, log: Log, keys: Keys | None = None) -> None:
        self._log = log
        self._tree = log.tree()
        self.signatures = check(log, keys)

    @property
    def note(self) -> Note:
        """Return the checkpoint."""
        return self._log.note

    @property
    def size(self) -> int:
        """Return the number of entries that it covers."""
        return self._log.size

    def path(self, leaf: int) -> list[bytes]:
        """Return the audit path of an entry; raise Rejected for one that is not covered."""
        if leaf >= self.size:
            raise Rejected(f"the newest checkpoint covers {self.size} entries, not yet leaf {leaf}; try again")
        return self._tree.inclusion(leaf, self.size)


class Copy:
    """Keeps the promises of `Archive` by the files of a copy and an index beside them."""

    def __init__(self, folder: Path, log_key: str | None = None, witness_keys: Sequence[str] = ()) -> None:
        """Raise Rejected for a folder that is no copy, and for what is no key.

        Its signatures are held against the keys that are given, else against those of the platform here.
        """
        self._log = Log(folder)
        self._index = Index(self._log)
        self._proofs = LogProofs(self._log, keys_at_hand(self._log, log_key, witness_keys))
        self._chronicle: Chronicle | None = None
        self._columns: dict[str, Columns] = {}

    async def with_id(self, event_id: str) -> list[Placed]:
        """See `Archive`."""
        wanted = event_id.encode()
        found = self._index.entries(self._index.with_id(id_key(wanted)))
        return [each for each in found if header(each.entry, "ce_id") == wanted]

    async def with_id_prefix(self, prefix: str, family: str) -> list[Placed]:
        """See `Archive`."""
        found = self._index.entries(self._index.with_id(bytes.fromhex(prefix[: len(prefix) // 2 * 2])))
        return [
            each
            for each in found
            if each.entry.topic.startswith(family) and (header(each.entry, "ce_id") or b"").startswith(prefix.encode())
        ]

    async def at(self, topic: str, part: int, offset: int) -> Placed | None:
        """See `Archive`."""
        leaf = self._index.at(topic, part, offset)
        return None if leaf is None else next(self._index.entries([leaf]), None)

    async def chronicle(self) -> Chronicle:
        """See `Archive`."""
        if self._chronicle is None:
            self._chronicle = Chronicle(list(self._index.entries(self._index.leaves(HISTORY).tolist())))
        return self._chronicle

    async def keyed(self, source: str, column: str, value: object) -> list[Placed]:
        """See `Archive`."""
        return self._index.keyed(source, column, value)

    async def columns(self, read: ReadSet, spine: Found[RecordAccepted]) -> Columns:
        """See `Archive`."""
        compiled = read.compiled
        if compiled.id not in self._columns:
            self._columns[compiled.id] = self._index.columns(compiled)
        return self._columns[compiled.id]

    async def frames(self, leaves: Sequence[int]) -> list[bytes]:
        """See `Archive`."""
        found = {leaf: self._log.frame(entry) for leaf, entry in self._index.raw(sorted(set(leaves)))}
        missing = next((leaf for leaf in leaves if leaf not in found), None)
        if missing is not None:
            raise Rejected(f"leaf {missing} was withheld from {self._log.folder}; ask for a copy that has it")
        return [found[leaf] for leaf in leaves]

    async def predictions(self) -> Sequence[int]:
        """See `Archive`."""
        leaves: Sequence[int] = self._index.leaves([f"{PREDICTIONS}*"]).tolist()
        return leaves

    def proofs(self) -> LogProofs:
        """See `Archive`."""
        return self._proofs
