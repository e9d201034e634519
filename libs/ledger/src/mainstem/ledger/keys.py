"""Keys that sign notes: the log's own, and those of witnesses (https://c2sp.org/signed-note, tlog-cosignature).

A kind of key is a class that knows its type byte; `KINDS` has them all.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from struct import Struct
from typing import ClassVar, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mainstem.ledger.note import KEY_ID_BYTES, NoteError, Signature, decode, is_name

_TIME: Final = Struct(">Q")
_PRIVATE: Final = "PRIVATE+KEY"
_LAST_TIME: Final = 2**63 - 1


@dataclass(frozen=True)
class _Ed25519:
    """A public key under a name. Raises NoteError for a name or a key that can be none."""

    name: str
    public: bytes  #: 32 bytes, as RFC 8032 has them

    TYPE: ClassVar[int]

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise NoteError(f"{self.name!r} is no name of a key: no spaces and no plus; take a URL without its scheme")
        try:
            Ed25519PublicKey.from_public_bytes(self.public)
        except ValueError as fault:
            raise NoteError(f"an Ed25519 key has 32 bytes; that of {self.name} has {len(self.public)}") from fault

    @cached_property
    def key_id(self) -> bytes:
        """Return the beginning of the digest of name, type and key."""
        return sha256(f"{self.name}\n".encode() + bytes([self.TYPE]) + self.public).digest()[:KEY_ID_BYTES]

    def vkey(self) -> str:
        """Return the key as a text to hand to whoever verifies."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(bytes([self.TYPE]) + self.public).decode()}"

    def _signed(self, text: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


class LogKey(_Ed25519):
    """Knows the Ed25519 signatures of a log."""

    TYPE: ClassVar[int] = 0x01

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Tell whether the signature of a text is of this key; see `Verifier.verify`."""
        return self._signed(text, signature)


class WitnessKey(_Ed25519):
    """Knows the timestamped Ed25519 cosignatures of a witness."""

    TYPE: ClassVar[int] = 0x04

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Tell whether the cosignature of a checkpoint is of this key."""
        if len(signature) < _TIME.size:
            return False
        seconds = cosigned_at(signature)
        return seconds <= _LAST_TIME and self._signed(_cosigned(text, seconds), signature[_TIME.size :])


#: Kinds of keys by their type byte.
KINDS: Final[Mapping[int, type[LogKey | WitnessKey]]] = {kind.TYPE: kind for kind in (LogKey, WitnessKey)}


def read_vkey(text: str) -> LogKey | WitnessKey:
    """Return the key that a `vkey` stands for; raises NoteError."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    data = decode(encoded) or b""
    kind = KINDS.get(data[0]) if data else None
    if kind is None:
        known = ", ".join(f"0x{number:02x}" for number in KINDS)
        raise NoteError(f"{text!r} is no key: it reads name+id+base64 of type and key, with a type of {known}")
    key = kind(name, data[1:])
    if key.key_id.hex() != key_id:
        raise NoteError(f"the id of {text!r} is not that of its key, {key.key_id.hex()}; copy the key anew")
    return key


def read_log_key(text: str) -> LogKey:
    """Return the key of a log; raises NoteError, also for that of a witness."""
    key = read_vkey(text.strip())
    if not isinstance(key, LogKey):
        raise NoteError(f"{text.strip()!r} is no key of a log; that has the type 0x{LogKey.TYPE:02x}")
    return key


def read_witness_key(text: str) -> WitnessKey:
    """Return the key of a witness; raises NoteError, also for that of a log."""
    key = read_vkey(text.strip())
    if not isinstance(key, WitnessKey):
        raise NoteError(f"{text.strip()!r} is no key of a witness; that has the type 0x{WitnessKey.TYPE:02x}")
    return key


@dataclass(frozen=True)
class Secret:
    """Signs, under a name. As a text it is `PRIVATE+KEY+name+id+base64`, the form of Go's note package."""

    name: str
    _seed: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a secret key; raises NoteError, which does not repeat it."""
        known, _, rest = text.strip().partition(f"{_PRIVATE}+")
        name, _, rest = rest.partition("+")
        key_id, _, encoded = rest.partition("+")
        data = decode(encoded) or b""
        if known or len(data) != 33 or data[0] != LogKey.TYPE:
            raise NoteError(f"this is no secret key: it reads {_PRIVATE}+name+id+base64 of the type 0x01 and 32 bytes")
        secret = cls(name, data[1:])
        if secret.log_key.key_id.hex() != key_id:
            raise NoteError(f"the id of the secret key of {name!r} is not that of its key; it was damaged")
        return secret

    def render(self) -> str:
        """Return the secret as a text; never log it."""
        encoded = b64encode(bytes([LogKey.TYPE]) + self._seed).decode()
        return f"{_PRIVATE}+{self.name}+{self.log_key.key_id.hex()}+{encoded}"

    @cached_property
    def log_key(self) -> LogKey:
        """Return the key that knows what `sign` gives."""
        return LogKey(self.name, self._public)

    @cached_property
    def witness_key(self) -> WitnessKey:
        """Return the key that knows what `cosign` gives."""
        return WitnessKey(self.name, self._public)

    def sign(self, text: str) -> Signature:
        """Return the log's signature of a text."""
        return Signature(self.name, self.log_key.key_id, self._private.sign(text.encode()))

    def cosign(self, text: str, seconds: int) -> Signature:
        """Return a witness's signature of a checkpoint's text, made so many seconds after 1970."""
        value = _TIME.pack(seconds) + self._private.sign(_cosigned(text.encode(), seconds))
        return Signature(self.name, self.witness_key.key_id, value)

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._seed)

    @property
    def _public(self) -> bytes:
        return self._private.public_key().public_bytes_raw()


def cosigned_at(signature: bytes) -> int:
    """Return when a cosignature was made, in seconds since 1970, as it claims."""
    (seconds,) = _TIME.unpack_from(signature)
    return int(seconds)


def _cosigned(text: bytes, seconds: int) -> bytes:
    return b"cosignature/v1\ntime %d\n%b" % (seconds, text)
