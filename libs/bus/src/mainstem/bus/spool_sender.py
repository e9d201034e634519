"""What a spool holds, published: each block as the messages that it stands for, once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from mainstem.bus.frames import Block
from mainstem.bus.port import Publisher
from mainstem.bus.spool_tail import Tail
from mainstem.events.envelope import Message

#: One `publish` takes so many messages; a producer writes that much to a partition as one batch.
_SEND_MESSAGES = 200


async def send(
    tail: Tail,
    messages: Callable[[Block], Sequence[Message]],
    publisher: Publisher,
    start: int,
    stream: str,
    sent: Callable[[Sequence[Message], int], Awaitable[None]],
) -> None:
    """Publish what the blocks stand for, from the number `start` on, in its order; until the folder is moved away.

    The origin of a message is `<stream>@<incarnation>/<number>`. When some are acknowledged, `sent` is called with
    them and the number that follows, and only then are they forgotten: it keeps that number in a transaction.
    After a crash the messages from the number kept last are published again under the same origins. Raises
    SpoolCorrupt, also when the spool ends before `start`: its next numbers were given before; and OSError when all is
    sent and cannot be forgotten.
    """
    tail.refuse_shorter(start)
    own = f"{stream}@{tail.incarnation}".encode()
    while True:
        blocks = await asyncio.to_thread(tail.read, start)
        if not blocks:
            if not tail.is_there():
                return
            tail.release(start)
            await tail.wait()
            continue
        numbered = [each for block in blocks for each in enumerate(messages(block), block.first) if each[0] >= start]
        for begin in range(0, len(numbered), _SEND_MESSAGES):
            some = numbered[begin : begin + _SEND_MESSAGES]
            batch = [_with_origin(message, b"%b/%d" % (own, number)) for number, message in some]
            await publisher.publish(batch)
            start = some[-1][0] + 1
            await sent(batch, start)
        with suppress(OSError):  # it is raised when there is nothing more to send
            tail.release(start)


def _with_origin(message: Message, origin: bytes) -> Message:
    headers = (*message.headers, ("ce_origin", origin))
    return Message(message.topic, message.key, message.value, headers, message.partition)
