"""The verification of a copy by PyPI `tlog-scales`, which nobody here wrote; ours only puts its calls in a row."""

from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from tlog_scales import reader, signing, tlog
from tlog_scales.backend import LocalBackend


def accepts(folder: Path, log_key: str, witness_key: str, kept: str | None = None) -> bool:
    """Tell whether it accepts checkpoint, cosignature, tree, every entry, and the checkpoint kept from before."""
    try:
        _check(folder, log_key, witness_key, kept)
    except (
        AssertionError, IndexError, OSError, RuntimeError, ValueError,
        InvalidSignature, tlog.ConsistencyProofInvalid, tlog.InclusionProofInvalid,
    ):  # fmt: skip
        return False
    return True


def _check(folder: Path, log_key: str, witness_key: str, kept: str | None) -> None:
    log = reader.TilesReader(LocalBackend(folder))
    checkpoint = log.get_checkpoint()
    assert checkpoint.origin == log_key.split("+", maxsplit=1)[0]
    for key in (log_key, witness_key):
        checkpoint.verify(signing.Vkey.from_string(key))
    assert log.calculate_root_hash() == checkpoint.root_hash
    for leaf in range(checkpoint.size):
        proof = log.get_inclusion_proof(leaf, checkpoint.size)
        proof.check(sha256(b"\0" + log.get_entry(leaf)).digest(), checkpoint.root_hash)
    if kept is not None:
        before = tlog.Checkpoint.from_text(kept)
        before.verify(signing.Vkey.from_string(log_key))
        assert before.size <= checkpoint.size
        log.get_consistency_proof(before.size, checkpoint.size).check(before.root_hash, checkpoint.root_hash)
