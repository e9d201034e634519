"""What a turn's answers leave behind: a block of columns on disk, from which the event of each is written later."""

from collections.abc import Sequence
from functools import cache, partial
from itertools import zip_longest
from typing import NamedTuple

import msgspec
import numpy as np
import orjson

from mainstem.bus.frames import Block
from mainstem.events.envelope import Headers, Message
from mainstem.serving.entities import AsOf, Floats
from mainstem.serving.forms import FIXED, SHADOWED, Form
from mainstem.serving.ports import Answer, Question


class Answered(msgspec.Struct, array_like=True):
    """Answers that one version gave at one position, or what a shadow scored behind them.

    Of each call: how many rows it has, its id, channel, entity and trace. `inputs` is float64 [rows, width], `scores`
    float64 [rows], both little endian.
    """

    topic: str
    head: bytes
    recorded: str
    position: str
    calls: Sequence[tuple[int, str, str, str | None, bytes | None]]
    width: int
    inputs: bytes
    scores: bytes
    #: Where features were looked up, as JSON without its braces; by call what was said of its entities, as JSON.
    looked_up: bytes = b""
    columns: list[bytes | None] = []
    #: By row the id of the answer that a shadow stands beside; it has no inputs of its own.
    beside: Sequence[str] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Answered).decode


def prediction_id(incarnation: str, number: int) -> str:
    """Return the id of the answer to the row that has a number in a spool: 16 digits of the spool, 16 of the number.

    The spool's name was drawn when it was first opened, so no other event is called so.
    """
    return f"{incarnation[:16]}{number:016x}"


def row_ids(answer: Answer) -> list[str]:
    """Return the id of each row of an answer that was recorded."""
    return ids_from(answer.prediction or "", len(answer.probabilities))


def ids_from(first: str, rows: int) -> list[str]:
    """Return the ids of the answers to the rows of a call, by that of the first, which callers are told."""
    spool, number = first[:16], int(first[16:], 16)
    digits = np.arange(number, number + rows, dtype=">u8").tobytes().hex()
    return [spool + digits[at : at + 16] for at in range(0, len(digits), 16)]


class At(NamedTuple):
    """Where answers are recorded: log time (RFC 3339) and position, and as of what their features were looked up."""

    recorded: str
    position: str
    as_of: AsOf | None = None


def pack(form: Form, questions: Sequence[Question], inputs: Floats, scores: Floats, at: At) -> bytes:
    """Return the block of what questions on one version were answered; inputs and scores are those of all in turn."""
    looked_up, columns = b"", list[bytes | None]()
    if at.as_of is not None:
        looked_up = orjson.dumps({"at": at.as_of.at, "applied": at.as_of.applied})[1:-1]
        columns = [None if each.columns is None else orjson.dumps(each.columns) for each in questions]
    return _encode(
        Answered(
            form.topic,
            form.head,
            at.recorded,
            at.position,
            [(len(each.rows), each.id, each.channel, each.entity, each.traceparent) for each in questions],
            inputs.shape[1],
            inputs.tobytes(),
            scores.tobytes(),
            looked_up,
            columns,
        )
    )


def pack_shadow(
    form: Form, questions: Sequence[Question], beside: Sequence[str], scores: Floats, recorded: str, position: str
) -> bytes:
    """Return the block of what a shadow scored behind answers, whose ids are `beside`, one a row."""
    calls = [(len(each.rows), each.id, each.channel, each.entity, each.traceparent) for each in questions]
    block = Answered(form.topic, form.head, recorded, position, calls, 0, b"", scores.tobytes(), beside=beside)
    return _encode(block)


def unpack(incarnation: str, block: Block) -> list[Message]:
    """Return the messages of a block in their order, one a row, without their origins."""
    given = _decode(block.payload)
    return _shadows(incarnation, block.first, given) if given.beside else _answers(incarnation, block.first, given)


def _answers(incarnation: str, first: int, given: Answered) -> list[Message]:
    fixed = _headers(FIXED, given)
    inputs = np.frombuffer(given.inputs, "<f8").reshape(-1, given.width)
    features = orjson.dumps(inputs, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
    scores = orjson.dumps(np.frombuffer(given.scores, "<f8"), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    ids = ids_from(prediction_id(incarnation, first), len(inputs))
    named = cache(partial(_named, given.position))
    found: list[Message] = []
    for (rows, asked, channel, entity, trace), columns in zip_longest(given.calls, given.columns):
        subject, story = (entity or given.position).encode(), asked.encode()
        headers = [*fixed, ("ce_subject", subject), ("ce_correlationid", story), ("ce_causationid", story)]
        headers += [] if trace is None else [("traceparent", trace)]
        middle, ends = named(channel, entity), _ends(given.looked_up, columns, rows)
        for row, end in enumerate(ends, len(found)):
            value = b'%b,%b,"features":[%b],"score":%b%b}' % (given.head, middle, features[row], scores[row], end)
            own = (*headers, ("ce_id", ids[row].encode()))
            found.append(Message(given.topic, subject, value, own, partition=0))
    return found


def _named(position: str, channel: str, entity: str | None) -> bytes:
    """Return what an event says of a call and where it was answered, as JSON without its braces."""
    return orjson.dumps({"channel": channel, "entity": entity, "row": None, "position": position})[1:-1]


def _shadows(incarnation: str, first: int, given: Answered) -> list[Message]:
    fixed, scores = _headers(SHADOWED, given), np.frombuffer(given.scores, "<f8").tolist()
    found: list[Message] = []
    for rows, asked, channel, entity, trace in given.calls:
        subject = (entity or given.position).encode()
        headers = [*fixed, ("ce_subject", subject), ("ce_correlationid", asked.encode())]
        headers += [] if trace is None else [("traceparent", trace)]
        said = {"channel": channel, "entity": entity, "position": given.position}
        for row in range(len(found), len(found) + rows):
            beside = given.beside[row]
            value = orjson.dumps({**said, "answer": beside, "score": scores[row]})[1:]
            own = ("ce_causationid", beside.encode()), ("ce_id", prediction_id(incarnation, first + row).encode())
            found.append(Message(given.topic, subject, b"%b,%b" % (given.head, value), (*headers, *own), partition=0))
    return found


def _headers(kind: Headers, given: Answered) -> Headers:
    """Return the headers that all messages of a block have."""
    at = given.recorded.encode()
    return (*kind, ("ce_time", at), ("ce_recordedtime", at), ("ce_tenant", b"default"))


def _ends(looked_up: bytes, columns: bytes | None, rows: int) -> list[bytes]:
    """Return what stands at the end of each row of a call: where its features were looked up, if they were."""
    if columns is None:
        return [b""] * rows
    said = orjson.loads(columns)
    entities = [{name: values[row] for name, values in said.items()} for row in range(rows)]
    return [b',"lookup":{%b,"columns":%b}' % (looked_up, orjson.dumps(entity)) for entity in entities]
