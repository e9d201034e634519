"""The frames of a spool: blocks as bytes, one behind the other, each of which tells whether it is whole.

Payload length (u32), CRC-32 (u32) of what follows, number (u64) of the first message that the block stands for, how
many these are (u32), payload; little endian.
"""

from dataclasses import dataclass
from struct import Struct
from zlib import crc32

_FRAME = Struct("<IIQI")
_NUMBERS = Struct("<QI")
_FIRST = Struct("<Q")
#: Bytes of a frame before the number of its first message.
_BEFORE_FIRST = 8
#: Bytes of a frame before its payload.
HEAD_BYTES = _FRAME.size


@dataclass(frozen=True, slots=True)
class Block:
    """What was appended at once: messages numbered from `first` on."""

    first: int
    count: int
    payload: bytes


def frame_of(block: Block) -> bytes:
    """Return a block as bytes."""
    checksum = crc32(block.payload, crc32(_NUMBERS.pack(block.first, block.count)))
    return _FRAME.pack(len(block.payload), checksum, block.first, block.count) + block.payload


def size_of(head: bytes) -> int:
    """Return how many bytes a frame takes that begins so; at least a head, of which there may be less."""
    return HEAD_BYTES + (_FRAME.unpack(head)[0] if len(head) == HEAD_BYTES else 0)


def blocks_of(content: bytes) -> tuple[list[Block], int]:
    """Return every block up to the first frame that is not whole, and the bytes of their frames."""
    at, found = 0, []
    while at + HEAD_BYTES <= len(content):
        length, checksum, first, count = _FRAME.unpack_from(content, at)
        payload = content[at + HEAD_BYTES : at + HEAD_BYTES + length]
        if len(payload) < length or crc32(payload, crc32(_NUMBERS.pack(first, count))) != checksum:
            break
        found.append(Block(first, count, payload))
        at += HEAD_BYTES + length
    return found, at


def goes_on(content: bytes, at: int, number: int) -> bool:
    """Tell whether the frame at a place, due to be of a number and not whole, is broken: others stand behind it.

    Else it is the last one and half written, as a kill leaves it. What it holds is what callers said, and may look like
    frames: where its head is as it was written, only the length may be another, and then it ends where the next number
    stands and its checksum is right.
    """
    if at + HEAD_BYTES <= len(content):
        length, checksum, first, count = _FRAME.unpack_from(content, at)
        if first <= number < first + count and length > len(content) - at - HEAD_BYTES:
            return _ends_before(content, at + HEAD_BYTES, (first, count), checksum)
    return any(_is_whole(content, place, number) for place in range(at + 1, len(content) - HEAD_BYTES + 1))


def _ends_before(content: bytes, begin: int, numbers: tuple[int, int], checksum: int) -> bool:
    """Tell whether a payload with a checksum begins at a place and is followed by a frame of the next number."""
    following, found = _FIRST.pack(sum(numbers)), crc32(_NUMBERS.pack(*numbers))
    at, place = begin, content.find(following, begin + _BEFORE_FIRST)
    while place >= 0:
        end = place - _BEFORE_FIRST
        found = crc32(content[at:end], found)
        if found == checksum:
            return True
        at, place = end, content.find(following, place + 1)
    return False


def _is_whole(content: bytes, at: int, number: int) -> bool:
    """Tell whether a whole frame of a number, or a later one, stands at a place."""
    length, checksum, first, count = _FRAME.unpack_from(content, at)
    if not (count and number <= first < number + len(content) and length <= len(content) - at - HEAD_BYTES):
        return False
    payload = content[at + HEAD_BYTES : at + HEAD_BYTES + length]
    return bool(crc32(payload, crc32(_NUMBERS.pack(first, count))) == checksum)
