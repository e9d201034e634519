"""Who signed the checkpoint of a log, as far as keys are at hand that tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mainstem.audit.log import Log
from mainstem.audit.verification import Keys
from mainstem.cli.connection import setting
from mainstem.cli.local.errors import LocalError
from mainstem.events.errors import Rejected
from mainstem.ledger.keys import LogKey, WitnessKey, read_log_key, read_witness_key
from mainstem.ledger.note import NoteError, Signature

UNCHECKED: Final = "signature not checked: give --log-key"


@dataclass(frozen=True, slots=True)
class Signatures:
    """Whose signatures of a checkpoint were held against their keys, in the order of its lines."""

    names: Sequence[str] = ()
    #: Why it is not what the owners of the keys signed.
    fault: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the log signed it, and every witness whose key is at hand."""
        return bool(self.names) and self.fault is None

    @property
    def told(self) -> str:
        """Return it in words."""
        return self.fault or (f"signed by {', '.join(self.names)}" if self.names else UNCHECKED)


def check(log: Log, keys: Keys | None) -> Signatures:
    """Hold the checkpoint of a log against keys."""
    if keys is None:
        return Signatures()
    if log.checkpoint.origin != keys.log.name:
        return Signatures(fault=f"the checkpoint is of the log {log.checkpoint.origin}, not of {keys.log.name}")
    held = list[Signature]()
    try:
        held += log.note.signed_by([keys.log]).values()
        for witness in keys.witnesses:
            held += log.note.signed_by([witness]).values()
    except NoteError as fault:
        return Signatures(fault=f"the checkpoint does not hold: {fault}")
    return Signatures([each.name for each in log.note.signatures if each in held])


def signed(folder: Path, log_key: str | None, witnesses: Sequence[str]) -> Signatures:
    """Hold the checkpoint of a copy against the keys that are given, or those of the platform here."""
    log = Log(folder)
    return check(log, keys_at_hand(log, log_key, witnesses))


def keys_at_hand(log: Log, log_key: str | None, witnesses: Sequence[str]) -> Keys | None:
    """Return the keys that are given, else those of the platform here if the log bears its name; None without any.

    Raises Rejected for what is no key, and for keys of witnesses without that of the log.
    """
    if log_key is not None:
        return _keys(log_key, witnesses)
    if witnesses:
        raise Rejected("a witness cosigns what the log signed: give the key of the log with --log-key, too")
    try:
        keys = read_keys(None, [])
    except (LocalError, OSError):
        return None
    return keys if keys.log.name == log.checkpoint.origin else None


def read_keys(log: str | None, witnesses: Sequence[str]) -> Keys:
    """Return the public keys that are given, as keys or as files that hold one; without any those of the platform.

    Raises Rejected for what is no key, NotRunning when none are given and there is no platform.
    """
    return _keys(log or setting("MAINSTEM_LOG_VKEY"), witnesses or [setting("MAINSTEM_WITNESS_VKEY")])


def _keys(log: str, witnesses: Sequence[str]) -> Keys:
    log_key, keys = _key(log), list(map(_key, witnesses))
    if not isinstance(log_key, LogKey) or not all(isinstance(key, WitnessKey) for key in keys):
        raise Rejected("the key of the log and one of each witness are needed; they were given in each other's place")
    return Keys(log_key, [key for key in keys if isinstance(key, WitnessKey)])


def _key(given: str) -> LogKey | WitnessKey:
    try:
        text = Path(given).read_text() if Path(given).is_file() else given
    except (OSError, UnicodeDecodeError):
        text = given
    try:
        return read_log_key(text)
    except NoteError:
        pass
    try:
        return read_witness_key(text)
    except NoteError as fault:
        raise Rejected(f"{given} is no public key, nor a file with one: {fault}") from fault
