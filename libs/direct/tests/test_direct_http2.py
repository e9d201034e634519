"""gRPC over HTTP/2: what calls get, what connections may cost, and how they end."""

import asyncio
import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable
from types import SimpleNamespace

import h2.config
import h2.connection
import h2.events
import hpack
import pytest

from mainstem.direct import Status, UnaryLimits
from mainstem.direct.frames import (
    NUMBER,
    NUMBER_MASK,
    PREFACE,
    Code,
    Flag,
    Kind,
    Setting,
    frame,
    reset,
    settings,
    window,
)
from mainstem.direct.unary import PREFIX
from mainstem.testkit.waiting import until

NAMED = {"path": b"/test.Service/Wait"}


def status(peer: SimpleNamespace, number: int = 1) -> int:
    return int(peer.told(number)[b"grpc-status"])


async def test_a_call_is_answered_with_headers_a_message_and_trailers(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet().say(h2c.call(1, b"hello"))
    assert peer.body() == h2c.prefixed(b"hello")
    assert peer.told() == {b":status": b"200", b"content-type": b"application/grpc", b"grpc-status": b"0"}
    flags = [(each.kind, each.flags) for each in peer.frames() if each.number == 1]
    assert flags == [(Kind.HEADERS, 4), (Kind.DATA, 0), (Kind.HEADERS, 5)]


async def test_the_client_of_h2_finds_nothing_wrong_with_a_hundred_calls_at_once(h2c: SimpleNamespace) -> None:
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    peer, random_ = h2c.Peer(), random.Random(2)
    client.initiate_connection()
    client.receive_data(bytes(peer.wire.written))
    peer.wire.written.clear()
    sent = {number: random_.randbytes(random_.randrange(1_500)) for number in range(1, 201, 2)}
    for number, content in sent.items():
        client.send_headers(number, h2c.REQUEST)
        client.send_data(number, h2c.prefixed(content), end_stream=True)
    # The window of the connection that a client begins with: what does not fit in it waits until there is more.
    found = dict.fromkeys(sent, b"")
    ended = set()
    while len(ended) < len(sent):
        peer.say(client.data_to_send())
        heard, peer.wire.written = bytes(peer.wire.written), bytearray()
        for event in client.receive_data(heard):
            if isinstance(event, h2.events.DataReceived):
                found[event.stream_id] += event.data
                client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                ended.add(event.stream_id)
    assert found == {number: h2c.prefixed(content) for number, content in sent.items()}


async def test_blocks_that_came_before_are_known_once_the_client_has_no_table(h2c: SimpleNamespace) -> None:
    peer, encoder = h2c.Peer(), hpack.Encoder()
    peer.say(PREFACE + frame(Kind.SETTINGS, 0, 0), h2c.headers(1, h2c.block(encoder=encoder)) + h2c.data(1, b"\0" * 5))
    assert not peer.door.known.heads
    peer.say(frame(Kind.SETTINGS, Flag.ACK, 0))
    encoder.header_table_size = 0
    for number in (3, 5, 7):
        peer.say(h2c.headers(number, h2c.block(encoder=encoder)) + h2c.data(number, b"\0" * 5))
    assert len(peer.door.known.heads) == 1 + 1  # the first one says that there is no table
    assert list(peer.taken) == [1, 3, 5, 7]


async def test_a_client_that_keeps_its_table_all_the_same_is_understood(h2c: SimpleNamespace) -> None:
    peer, encoder = h2c.Peer().greet(), hpack.Encoder()
    for number in (1, 3):
        block = h2c.block((b"x-id", b"1"), encoder=encoder)
        peer.say(h2c.headers(number, block) + h2c.data(number, h2c.prefixed(b"x")))
    assert (peer.taken, peer.door.known.heads) == ({1: b"x", 3: b"x"}, {})


async def test_a_client_that_gave_its_table_up_cannot_have_it_back(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet().say(h2c.call(1), h2c.headers(3, b"\x3f\xe1\x1f" + h2c.block()[1:]))
    assert peer.ended() == {0: Code.COMPRESSION_ERROR}


REFUSED = {
    "an unknown method": ({"path": b"/test.Service/Nothing"}, Status.UNIMPLEMENTED),
    "an unknown encoding": ({"grpc_encoding": b"br"}, Status.UNIMPLEMENTED),
    "a timeout that is none": ({"grpc_timeout": b"soon"}, Status.INTERNAL),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_call_that_cannot_be_served_is_refused_at_its_headers(h2c: SimpleNamespace, name: str) -> None:
    changed, code = REFUSED[name]
    more = [(key.replace("_", "-").encode(), value) for key, value in changed.items() if key != "path"]
    peer = h2c.Peer().greet().say(h2c.headers(1, h2c.block(*more, path=changed.get("path", h2c.PATH))))
    assert status(peer) == code
    assert peer.ended() == {1: Code.NO_ERROR}  # nobody waits for the rest
    assert peer.say(h2c.data(1, b"late")).ended() == {1: Code.NO_ERROR}


async def test_who_sends_an_unknown_encoding_is_told_the_known_ones(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet().say(h2c.headers(1, h2c.block((b"grpc-encoding", b"br"))))
    assert peer.told()[b"grpc-accept-encoding"] == b"identity, deflate, gzip"


@pytest.mark.parametrize(("changed", "code"), [({"method": b"GET"}, b"405"), ({"content_type": b"text/html"}, b"415")])
async def test_what_is_no_grpc_gets_a_status_of_http(h2c: SimpleNamespace, changed: dict, code: bytes) -> None:
    assert h2c.Peer().greet().say(h2c.call(1, **changed)).told()[b":status"] == code


async def test_a_method_that_fails_fails_its_call_alone(h2c: SimpleNamespace) -> None:
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: raised.append(type(told["exception"])))
    failing = {number: {"path": b"/test.Service/Fail"} if number % 4 == 3 else {} for number in range(1, 129, 2)}
    peer = h2c.Peer().greet().say(b"".join(h2c.call(number, **changed) for number, changed in failing.items()))
    assert {number: status(peer, number) for number in failing} == {
        number: Status.INTERNAL if changed else Status.OK for number, changed in failing.items()
    }
    assert raised == [KeyError] * 32
    assert not peer.wire.closing


async def test_an_error_of_a_method_arrives_as_it_was_said(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet().say(h2c.call(1, **NAMED))
    peer.waiting[0].refuse(Status.NOT_FOUND, "no 100 % ñandú\n")
    assert (status(peer), peer.told()[b"grpc-message"]) == (Status.NOT_FOUND, b"no 100 %25 %C3%B1and%C3%BA%0A")


MESSAGES = {
    "no message": (b"", Status.UNIMPLEMENTED),
    "a part of a prefix": (b"\0\0", Status.INTERNAL),
    "a part of a message": (PREFIX.pack(0, 9) + b"x", Status.INTERNAL),
    "two messages": (PREFIX.pack(0, 1) + b"x" + PREFIX.pack(0, 1) + b"y", Status.UNIMPLEMENTED),
    "packed without saying how": (PREFIX.pack(1, 1) + b"x", Status.INTERNAL),
    "too large": (PREFIX.pack(0, 17 << 20) + b"x", Status.RESOURCE_EXHAUSTED),
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_body_that_is_not_one_message_is_refused(h2c: SimpleNamespace, name: str) -> None:
    body, code = MESSAGES[name]
    peer = h2c.Peer().greet().say(h2c.headers(1, h2c.block()) + h2c.data(1, body))
    assert (status(peer), peer.taken) == (code, {})


@pytest.mark.parametrize(("name", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
async def test_a_message_that_is_packed_is_unpacked_and_a_bomb_is_not(
    h2c: SimpleNamespace, name: bytes, pack: Callable[[bytes], bytes]
) -> None:
    peer = h2c.Peer(UnaryLimits(message_bytes=10_000)).greet()
    for number, content in ((1, b"a" * 9_000), (3, b"a" * 10_001)):
        packed = pack(content)
        body = PREFIX.pack(1, len(packed)) + packed
        peer.say(h2c.headers(number, h2c.block((b"grpc-encoding", name))) + h2c.data(number, body))
    assert (peer.taken, status(peer, 3)) == ({1: b"a" * 9_000}, Status.RESOURCE_EXHAUSTED)


async def test_a_message_that_unpacks_to_much_more_than_was_sent_is_refused_where_it_passes_that(
    h2c: SimpleNamespace,
) -> None:
    peer, noise = h2c.Peer().greet(), random.Random(4).randbytes(20_000)
    exact = bytes(512 << 10)
    for number, content in ((1, exact), (3, exact + b"x"), (5, noise + exact), (7, noise + 2 * exact)):
        packed = gzip.compress(content)
        body = PREFIX.pack(1, len(packed)) + packed
        parts = [h2c.data(number, body[at : at + 16_000], 0) for at in range(0, len(body), 16_000)]
        peer.say(h2c.headers(number, h2c.block((b"grpc-encoding", b"gzip"))), *parts, h2c.data(number, b""))
    assert list(peer.taken) == [1, 5]
    assert status(peer, 3) == status(peer, 7) == Status.RESOURCE_EXHAUSTED
    assert peer.told(3)[b"grpc-message"] == b"the message has more than 524288 bytes when unpacked; send it as it is"


async def test_a_message_that_is_announced_too_large_is_refused_before_it_is_sent(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet().say(h2c.headers(1, h2c.block()) + h2c.data(1, PREFIX.pack(0, 1 << 30), 0))
    assert status(peer) == Status.RESOURCE_EXHAUSTED


async def test_an_answer_goes_out_as_the_windows_allow_and_holds_up_no_other(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet().say(settings({Setting.INITIAL_WINDOW_SIZE: 20}))
    peer.say(h2c.call(1, b"a" * 100), h2c.call(3, b"b" * 100))
    assert (len(peer.body(1)), len(peer.body(3))) == (20, 20)
    peer.say(frame(Kind.WINDOW_UPDATE, 0, 3, NUMBER.pack(85)))
    assert (len(peer.body(1)), peer.body(3)) == (20, h2c.prefixed(b"b" * 100))
    peer.wire.written.clear()
    peer.say(settings({Setting.INITIAL_WINDOW_SIZE: 200}))
    assert [each.kind for each in peer.frames()] == [Kind.SETTINGS, Kind.DATA, Kind.HEADERS]  # acknowledged, then used
    assert peer.body(1) == b"a" * 85


async def test_of_a_setting_that_comes_more_than_once_in_a_frame_the_last_holds(h2c: SimpleNamespace) -> None:
    sizes = (0, NUMBER_MASK, 7, 20)
    payload = b"".join(Setting.INITIAL_WINDOW_SIZE.to_bytes(2) + NUMBER.pack(size) for size in sizes)
    peer = h2c.Peer().greet().say(h2c.call(1, **NAMED), frame(Kind.SETTINGS, 0, 0, payload))
    peer.say(frame(Kind.WINDOW_UPDATE, 0, 1, NUMBER.pack(NUMBER_MASK - 100)))
    peer.say(frame(Kind.SETTINGS, 0, 0, payload))
    peer.say(h2c.call(3, b"a" * 100))
    assert (len(peer.body(3)), peer.ended()) == (20, {})


async def test_an_answer_waits_while_the_socket_is_full(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet()
    peer.connection.pause_writing()
    assert not peer.wire.reading
    body = h2c.prefixed(b"a" * 20_000)
    peer.say(h2c.headers(1, h2c.block()), h2c.data(1, body[:9_000], 0), h2c.data(1, body[9_000:]))
    assert not peer.body()
    peer.connection.resume_writing()
    assert (peer.body(), peer.wire.reading) == (body, True)


async def test_large_messages_are_let_in_only_as_far_as_there_is_room(h2c: SimpleNamespace) -> None:
    peer, size = h2c.Peer(UnaryLimits(large_bytes=50_000)).greet(), 100_000
    body, part = h2c.prefixed(b"x" * size), 16_000
    for number in (1, 3):
        peer.say(h2c.headers(number, h2c.block()), h2c.data(number, body[:part], 0))
    assert [each.number for each in peer.frames(Kind.WINDOW_UPDATE)] == [0, 1]
    peer.say(*(h2c.data(1, body[at : at + part], 0) for at in range(part, len(body), part)), h2c.data(1, b""))
    assert peer.taken == {1: b"x" * size}
    assert [each.number for each in peer.frames(Kind.WINDOW_UPDATE)] == [0, 1, 3]


async def test_a_message_in_tiny_parts_takes_no_more_memory_than_its_bytes(h2c: SimpleNamespace) -> None:
    peer, size = h2c.Peer().greet(), 60_000
    body = random.Random(3).randbytes(size - PREFIX.size)
    parts = b"".join(h2c.data(1, h2c.prefixed(body)[at : at + 2], 0) for at in range(0, size, 2))
    tracemalloc.start()
    began, _ = tracemalloc.get_traced_memory()
    peer.say(h2c.headers(1, h2c.block()), parts)
    held = tracemalloc.get_traced_memory()[0] - began
    tracemalloc.stop()
    assert held < 2 * size
    assert peer.say(h2c.data(1, b"")).taken == {1: body}


async def test_a_call_is_refused_when_its_deadline_is_over(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet()
    peer.say(h2c.headers(1, h2c.block((b"grpc-timeout", b"5m"))))
    peer.say(h2c.headers(3, h2c.block((b"grpc-timeout", b"9m"), path=NAMED["path"])) + h2c.data(3, h2c.prefixed(b"")))
    peer.say(h2c.headers(5, h2c.block((b"grpc-timeout", b"1H"), path=NAMED["path"])) + h2c.data(5, h2c.prefixed(b"")))
    await until(lambda: b"grpc-status" in peer.told(3))
    assert status(peer, 1) == status(peer, 3) == Status.DEADLINE_EXCEEDED
    for call in peer.waiting:
        call.answer(b"late")
    assert (peer.body(3), peer.body(5)) == (b"", h2c.prefixed(b"late"))


async def test_a_client_that_takes_a_call_back_gets_no_answer(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet().say(h2c.call(1, **NAMED), frame(Kind.RST_STREAM, 0, 1, NUMBER.pack(Code.CANCEL)))
    peer.waiting[0].answer(b"x")
    peer.waiting[0].refuse(Status.INTERNAL, "x")
    assert not peer.frames(Kind.HEADERS, Kind.DATA, Kind.GOAWAY)


async def test_calls_at_once_are_limited(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer(UnaryLimits(streams=2)).greet().say(*(h2c.call(number, **NAMED) for number in (1, 3, 5)))
    assert (list(peer.taken), peer.ended()) == ([1, 3], {5: Code.REFUSED_STREAM})


FLOODS = {
    "resets": lambda h2c, n: h2c.headers(n, h2c.block()) + frame(Kind.RST_STREAM, 0, n, NUMBER.pack(Code.CANCEL)),
    "resets that we are made to send": lambda h2c, n: (
        h2c.headers(n, h2c.block()) + frame(Kind.WINDOW_UPDATE, 0, n, NUMBER.pack(0))
    ),
    "settings": lambda h2c, n: frame(Kind.SETTINGS, 0, 0),
    "pings": lambda h2c, n: frame(Kind.PING, 0, 0, bytes(8)),
    "priorities": lambda h2c, n: frame(Kind.PRIORITY, 0, n, bytes(5)),
    "unknown frames": lambda h2c, n: frame(99, 0, 0),
    "empty data": lambda h2c, n: (h2c.headers(1, h2c.block()) if n == 1 else b"") + h2c.data(1, b"", 0),
    "empty continuations": lambda h2c, n: frame(Kind.HEADERS if n == 1 else Kind.CONTINUATION, 0, 1),
    "updates of windows": lambda h2c, n: frame(Kind.WINDOW_UPDATE, 0, 0, NUMBER.pack(1)),
    "continuations": lambda h2c, n: frame(Kind.HEADERS if n == 1 else Kind.CONTINUATION, 0, 1, b"\0" * 400),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_of_frames_that_ask_for_nothing_ends_the_connection(h2c: SimpleNamespace, name: str) -> None:
    peer, sent = h2c.Peer(UnaryLimits(idle_frames=100, idle_updates=100)).greet(), 0
    while not peer.wire.closing and sent < 200:
        sent += 1
        peer.say(FLOODS[name](h2c, 2 * sent - 1))
    assert (peer.ended()[0], sent <= 101) == (Code.ENHANCE_YOUR_CALM, True)


async def test_frames_that_go_with_calls_are_no_flood(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer(UnaryLimits(idle_frames=10)).greet()
    for number in range(1, 401, 2):
        peer.say(h2c.call(number), frame(Kind.PING, 0, 0, bytes(8)))
    assert (len(peer.taken), peer.wire.closing) == (200, False)


async def test_two_updates_of_windows_for_each_frame_are_no_flood(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer(UnaryLimits(idle_updates=10)).greet()
    for number in range(1, 401, 2):
        peer.say(h2c.call(number), *(frame(Kind.WINDOW_UPDATE, 0, each, NUMBER.pack(10)) for each in (number, 0)))
    assert (len(peer.taken), peer.wire.closing) == (200, False)


async def test_headers_that_are_too_many_end_the_connection(h2c: SimpleNamespace) -> None:
    many = [(b"x-%d" % number, b"y" * 100) for number in range(200)]
    block = h2c.block(*many)
    parts = [
        frame(Kind.CONTINUATION if at else Kind.HEADERS, 0, 1, block[at : at + 16_384])
        for at in range(0, len(block), 16_384)
    ]
    peer = h2c.Peer().greet().say(*parts, frame(Kind.CONTINUATION, Flag.END_HEADERS, 1))
    assert peer.ended() == {0: Code.ENHANCE_YOUR_CALM}


async def test_more_connections_than_may_be_are_turned_away(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer(UnaryLimits(connections=1)).greet()
    second = h2c.Peer(UnaryLimits(connections=1))
    second.wire.written.clear()
    peer.door().connection_made(second.wire)
    assert (second.ended(), second.wire.closing) == ({0: Code.ENHANCE_YOUR_CALM}, True)


async def test_messages_in_part_are_bounded_over_all_connections(h2c: SimpleNamespace) -> None:
    content = bytes(200)
    part = h2c.headers(1, h2c.block()) + h2c.data(1, h2c.prefixed(content)[:65], 0)
    first, second, third = (h2c.Peer(UnaryLimits(held_bytes=100)) for _ in range(3))
    for peer in (second, third):
        peer.connection = first.door()
        peer.connection.connection_made(peer.wire)
    first.greet().say(part)
    second.greet().say(part)
    assert (status(second), first.door.held.bytes) == (Status.RESOURCE_EXHAUSTED, 65)
    first.say(h2c.data(1, h2c.prefixed(content)[65:]))
    assert (first.taken, first.door.held.bytes) == ({1: content}, 0)
    third.greet().say(part)
    third.connection.connection_lost(None)
    assert first.door.held.bytes == 0


async def test_answers_that_nobody_takes_are_bounded_over_all_connections(h2c: SimpleNamespace) -> None:
    first, second = (h2c.Peer(UnaryLimits(waiting_bytes=10_000)) for _ in range(2))
    second.connection = first.door()
    second.connection.connection_made(second.wire)
    shut = settings({Setting.INITIAL_WINDOW_SIZE: 0})
    first.greet().say(shut, h2c.call(1))
    second.greet().say(shut, h2c.call(1), h2c.call(3))
    assert (b"grpc-status" in first.told(1), status(second, 3)) == (False, Status.RESOURCE_EXHAUSTED)
    assert b"take them" in second.told(3)[b"grpc-message"]
    assert first.door.held.waiting > 8_000
    first.say(window(1, 100))
    assert (first.body(1), status(first)) == (h2c.prefixed(b"hello"), Status.OK)
    second.say(h2c.call(5))
    assert b"grpc-status" not in second.told(5)
    second.say(reset(5, Code.CANCEL))
    second.connection.connection_lost(None)
    assert first.door.held.waiting == 0


async def test_who_stops_sending_amid_a_request_is_not_waited_for(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet().say(h2c.call(1, **NAMED), h2c.headers(3, h2c.block()) + h2c.data(3, b"\0", 0))
    peer.connection.eof_received()
    assert not peer.wire.closing
    peer.waiting[0].answer(b"whole")
    assert (peer.body(1), peer.wire.closing, peer.door.held.bytes) == (h2c.prefixed(b"whole"), True, 0)


async def test_who_says_nothing_or_half_a_frame_is_closed(h2c: SimpleNamespace) -> None:
    now = h2c.Peer().connection.heard
    silent, half = h2c.Peer(), h2c.Peer().greet().say(h2c.call(1)[:20])
    idle, slow = h2c.Peer().greet(), h2c.Peer().greet().say(h2c.headers(1, h2c.block()))
    for peer, after_s in ((silent, 11), (half, 31), (slow, 31), (idle, 301)):
        peer.connection.check(now + after_s - 5)
        assert not peer.ended()
        peer.connection.check(now + after_s + 1)
    assert silent.ended() == half.ended() == {0: Code.PROTOCOL_ERROR}
    assert (status(slow), slow.wire.closing) == (Status.DEADLINE_EXCEEDED, False)
    assert idle.ended() == {0: Code.NO_ERROR}


async def test_who_reads_nothing_is_cut_off(h2c: SimpleNamespace) -> None:
    full, stuck = h2c.Peer().greet(), h2c.Peer().greet().say(settings({Setting.INITIAL_WINDOW_SIZE: 0}), h2c.call(1))
    full.connection.pause_writing()
    for peer in (full, stuck):
        peer.connection.check(peer.connection.heard + 31)
    assert (full.wire.closing, stuck.ended()) == (True, {1: Code.CANCEL})


async def test_at_the_end_what_was_taken_is_answered(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet().say(h2c.call(1, **NAMED))
    peer.connection.finish()
    peer.say(h2c.call(3))  # was on its way
    ping = peer.frames(Kind.PING)[0]
    peer.say(frame(Kind.PING, Flag.ACK, 0, ping.payload), h2c.call(5))
    said = [int.from_bytes(each.payload[:4]) for each in peer.frames(Kind.GOAWAY)]
    assert (said, list(peer.taken), peer.wire.closing) == ([NUMBER_MASK, 3], [1, 3], False)
    assert peer.ended()[5] == Code.REFUSED_STREAM
    peer.waiting[0].answer(b"x")
    assert (peer.body(1), peer.wire.closing) == (h2c.prefixed(b"x"), True)


async def test_a_client_that_stops_sending_gets_its_answer(h2c: SimpleNamespace) -> None:
    peer = h2c.Peer().greet().say(h2c.call(1, **NAMED))
    assert peer.connection.eof_received()
    assert not peer.wire.closing
    peer.waiting[0].answer(b"x")
    assert (peer.body(1), peer.wire.closing) == (h2c.prefixed(b"x"), True)


async def test_what_is_no_http2_is_told_so(h2c: SimpleNamespace) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", PREFACE + frame(Kind.PING, 0, 0, bytes(8))):
        assert h2c.Peer().say(garbage).ended() == {0: Code.PROTOCOL_ERROR}
