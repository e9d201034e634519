"""A log's key and its witness, in memory."""

from collections.abc import Sequence

from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import LogKey, Secret
from mainstem.ledger.note import Signature
from mainstem.ledger.witness import Refused, Submission, judge

LOG = Secret("example.com/log", bytes(range(32)))
WITNESS = Secret("example.com/witness", bytes(range(1, 33)))


class Cosigner:
    """Cosigns the checkpoints of one log, as a witness does that forgets nothing while it lives."""

    def __init__(self, secret: Secret = WITNESS, log: LogKey = LOG.log_key) -> None:
        self._secret = secret
        self._logs = {log.name: log}
        self.latest: dict[str, Checkpoint] = {}

    async def ask(self, submission: bytes) -> Sequence[Signature] | Refused:
        """Return the cosignature, or why there is none."""
        found = judge(submission, self._logs, self.latest)
        if isinstance(found, Refused):
            return found
        self.latest[found.origin] = found
        return [self._secret.cosign(Submission.parse(submission).checkpoint.text, 1_700_000_000 + found.size)]
