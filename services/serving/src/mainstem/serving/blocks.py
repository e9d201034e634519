"""What a turn's answers leave behind: a block of columns on disk, from which the event of each is written later."""

from collections.abc import Sequence

import msgspec
import numpy as np
import orjson

from mainstem.bus.spool import Block
from mainstem.events.envelope import Message
from mainstem.serving.ports import Floats, Question
from mainstem.serving.rows import FIXED, Form


class Answered(msgspec.Struct, array_like=True):
    """Answers that one version gave at one position.

    Of each call: how many rows it has, its id, channel, entity and trace. `inputs` is float64 [rows, width], `scores`
    float64 [rows], both little endian.
    """

    topic: str
    head: bytes
    recorded: str
    position: str
    calls: list[tuple[int, str, str, str | None, bytes | None]]
    width: int
    inputs: bytes
    scores: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Answered).decode


def prediction_id(incarnation: str, number: int) -> str:
    """Return the id of the answer to the row that has a number in a spool: 16 digits of the spool, 16 of the number.

    The spool's name was drawn when it was first opened, so no other event is called so.
    """
    return f"{incarnation[:16]}{number:016x}"


def pack(
    form: Form, questions: Sequence[Question], inputs: Floats, scores: Floats, recorded: str, position: str
) -> bytes:
    """Return the block of what questions on one version were answered; inputs and scores are those of all in turn."""
    return _encode(
        Answered(
            form.topic,
            form.head,
            recorded,
            position,
            [(len(each.rows), each.id, each.channel, each.entity, each.traceparent) for each in questions],
            inputs.shape[1],
            inputs.tobytes(),
            scores.tobytes(),
        )
    )


def unpack(incarnation: str, block: Block) -> list[Message]:
    """Return the messages of a block in their order, one a row, without their origins."""
    given = _decode(block.payload)
    at = given.recorded.encode()
    fixed = (*FIXED, ("ce_time", at), ("ce_recordedtime", at), ("ce_tenant", b"default"))
    inputs = np.frombuffer(given.inputs, "<f8").reshape(-1, given.width)
    features = orjson.dumps(inputs, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
    scores = orjson.dumps(np.frombuffer(given.scores, "<f8"), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    found: list[Message] = []
    for rows, asked, channel, entity, trace in given.calls:
        subject, story = (entity or given.position).encode(), asked.encode()
        headers = [*fixed, ("ce_subject", subject), ("ce_correlationid", story), ("ce_causationid", story)]
        headers += [] if trace is None else [("traceparent", trace)]
        said = {"channel": channel, "entity": entity, "row": None, "position": given.position}
        middle = orjson.dumps(said)[1:-1]
        for row in range(len(found), len(found) + rows):
            event_id = prediction_id(incarnation, block.first + row).encode()
            value = b'%b,%b,"features":[%b],"score":%b}' % (given.head, middle, features[row], scores[row])
            found.append(Message(given.topic, subject, value, (*headers, ("ce_id", event_id)), partition=0))
    return found
