"""The frames of a spool: blocks as bytes, one behind the other, each of which tells whether it is whole.

Payload length (u32), CRC-32 (u32) of what follows, number (u64) of the first message that the block stands for, how
many these are (u32), payload; little endian.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

_FRAME = Struct("<IIQI")
_NUMBERS = Struct("<QI")
_FIRST = Struct("<Q")
#: Bytes of a frame before the number of its first message.
_BEFORE_FIRST = 8
#: No segment stands for so many messages.
_MESSAGES = 1 << 32
#: Of so many bytes checksums are made, in some tenths of a second, to tell whether something goes on.
_LOOKED = 1 << 28
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


def in_order(blocks: Sequence[Block], first: int) -> Sequence[Block]:
    """Return the blocks up to the first whose number does not follow; that of the first of all is to be `first`."""
    for place, block in enumerate(blocks):
        if block.first != first:
            return blocks[:place]
        first += block.count
    return blocks


def goes_on(content: bytes, begin: int, number: int) -> bool:
    """Tell whether a whole frame of a later number stands anywhere from a place on: no kill leaves that.

    What callers said may look like one, or like so many that it takes too long to tell; then it may be one.
    """
    looked = 0
    for at in range(begin, len(content) - HEAD_BYTES + 1):
        length, checksum, first, count = _FRAME.unpack_from(content, at)
        if count and number <= first < number + _MESSAGES and length <= len(content) - at - HEAD_BYTES:
            payload = content[at + HEAD_BYTES : at + HEAD_BYTES + length]
            looked += length
            if looked > _LOOKED or crc32(payload, crc32(_NUMBERS.pack(first, count))) == checksum:
                return True
    return False


def is_shorter(content: bytes) -> bool:
    """Tell whether a frame is shorter than it says, but whole: where the next number stands its checksum is right."""
    if len(content) < HEAD_BYTES:
        return False
    _, checksum, *numbers = _FRAME.unpack_from(content)
    found, at, following = crc32(_NUMBERS.pack(*numbers)), HEAD_BYTES, _FIRST.pack(sum(numbers) % 2**64)
    place = content.find(following, at + _BEFORE_FIRST)
    while place >= 0:
        end = place - _BEFORE_FIRST
        found = crc32(content[at:end], found)
        if found == checksum:
            return True
        at, place = end, content.find(following, place + 1)
    return False
