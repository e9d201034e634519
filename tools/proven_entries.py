"""Which entries of a log a bundle proves: those below a checkpoint that the log signed and a witness cosigned."""

import hashlib
import json
import struct
from base64 import b64decode
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

#: A frame of so many bytes stands in the log by its length and SHA-256.
LONGEST = 65_536


def holds(truth: object, what: str) -> None:
    """Raise ValueError unless something is true."""
    if not truth:
        raise ValueError(what)


def closed(told: Any, what: str, names: str) -> None:
    """Hold that something has these names and no others, and that its leaf, if it has one, is a number of an entry."""
    holds(isinstance(told, dict) and sorted(told) == sorted(names.split()), f"{what}: its names are not {names}")
    holds("leaf" not in told or type(told["leaf"]) is int, f"{what}: its leaf is no whole number")


def signed(note: str, vkey: str, kind: int) -> list[str]:
    """Return the lines of a checkpoint that this key signed: of a log (1), or of a witness (4) with the time."""
    key = vkey if vkey.count("+") > 1 else Path(vkey).read_text().strip()
    (name, digest, data), (text, _, lines) = key.split("+", 2), note.rpartition("\n\n")
    made = hashlib.sha256(f"{name}\n".encode() + b64decode(data)).digest()[:4]
    found = [b64decode(line.split(" ")[2]) for line in lines.splitlines() if line.split(" ")[:2] == ["\u2014", name]]
    value = next((each[4:] for each in found if each[:4] == made), b"")
    holds(value and b64decode(data)[0] == kind and made.hex() == digest, f"checkpoint: no key of {name} signed it")
    time, value = (f"cosignature/v1\ntime {int.from_bytes(value[:8])}\n", value[8:]) if kind == 4 else ("", value)
    Ed25519PublicKey.from_public_bytes(b64decode(data)[1:]).verify(value, f"{time}{text}\n".encode())
    holds(kind == 4 or text.split("\n")[0] == name, f"checkpoint: it is not of {name}")
    return text.split("\n")


def root_from(entry: bytes, leaf: int, size: int, path: list[bytes]) -> bytes:
    """Return the root to which an audit path leads (RFC 6962, 2.1.1)."""
    holds(0 <= leaf < size and bool(path) == (size > 1), "an audit path has another length")
    if size == 1:
        return hashlib.sha256(b"\0" + entry).digest()
    left = 1 << (size - 1).bit_length() - 1
    below = root_from(entry, *((leaf, left) if leaf < left else (leaf - left, size - left)), path[:-1])
    return hashlib.sha256(b"\1" + (below + path[-1] if leaf < left else path[-1] + below)).digest()


class Entry:
    """A frame of the log; `[path]` is what it says under a name of the rules."""

    def __init__(self, frame: bytes) -> None:
        at = 5 + struct.unpack_from(">BI", frame)[1]
        self.topic, (part, offset, _, key, size, named) = frame[5:at].decode(), struct.unpack_from(">IqqiiI", frame, at)
        at, end, names, self.headers = at + 32, at + 32 + named, [], {}
        while at < end:
            names.append(frame[at + 4 : (at := at + 4 + struct.unpack_from(">I", frame, at)[0])].decode())
        at, self.place = end + 4 * len(names), f"{self.topic}/{part}/{offset}"
        self.key = frame[at : (at := at + max(key, 0))].decode(errors="replace")
        for name, length in zip(names, struct.unpack_from(f">{len(names)}i", frame, end), strict=True):
            self.headers[name] = frame[at : (at := at + max(length, 0))].decode(errors="replace")
        self.says, self.bytes = json.loads(frame[at:] or b"null"), max(size, 0)
        holds(frame[0] == 1 and at + self.bytes == len(frame), f"{self.place}: it is no frame")

    def __getitem__(self, path: str) -> Any:
        if path in ("place", "payload"):
            return self.place if path == "place" else self.says
        if path == "traceparent" or path.startswith("ce_"):
            return self.headers.get(path)
        found = self.says
        for name in path.split("/"):
            found = found.get(name) if isinstance(found, dict) else None
        return found


def proven(bundle: Any, log: str, witness: str) -> tuple[dict[str, Any], dict[int, Entry]]:
    """Return what a bundle's checkpoint says and the entries by leaf; raise ValueError, or InvalidSignature, if not."""
    closed(bundle, "the bundle", "format checkpoint explanation entries")
    note, entries = bundle["checkpoint"], dict[int, Entry]()
    origin, size, root, *_ = signed(note, log, 1)
    signed(note, witness, 4)
    for one in bundle["entries"]:
        closed(one, "entries", "leaf frame path")
        leaf, frame, path = one["leaf"], b64decode(one["frame"]), [*map(b64decode, one["path"])]
        stub = struct.pack(">BQ", 255, len(frame)) + hashlib.sha256(frame).digest()
        made = root_from(frame if len(frame) < LONGEST else stub, leaf, int(size), path)
        holds(made == b64decode(root), f"leaf {leaf}: this entry is not in the log")
        holds(leaf not in entries, f"leaf {leaf}: its entry is there twice")
        entries[leaf] = Entry(frame)
    signers = [line.split(" ")[1] for line in note.rpartition("\n\n")[2].splitlines()]
    return {"origin": origin, "size": int(size), "root": b64decode(root).hex(), "signed_by": signers}, entries
