"""gRPC as a client that others wrote speaks it: grpcio, synchronous and asyncio, over a socket."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import grpc
import pytest

from mainstem.direct import GrpcDoor, Status, UnaryCall
from mainstem.testkit.waiting import until

HOST = "127.0.0.1"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
Ask = Callable[..., grpc.aio.UnaryUnaryCall]


class Served:
    """A door with three methods; calls of `Wait` stay without an answer."""

    def __init__(self) -> None:
        self.waiting: list[UnaryCall] = []
        methods = {b"/test.S/Echo": self._echo, b"/test.S/Refuse": self._refuse, b"/test.S/Wait": self.waiting.append}
        self.door = GrpcDoor(methods)
        self.port = 0

    def _echo(self, call: UnaryCall) -> None:
        call.answer(call.message)

    def _refuse(self, call: UnaryCall) -> None:
        call.refuse(Status.FAILED_PRECONDITION, call.message.decode())


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    async with served.door.listening(HOST, 0) as port:
        served.port = port
        yield served


@pytest.fixture
async def ask(served: Served) -> AsyncIterator[Ask]:
    async with grpc.aio.insecure_channel(f"{HOST}:{served.port}", UNLIMITED) as channel:

        def ask(content: bytes, method: str = "Echo", **said: object) -> grpc.aio.UnaryUnaryCall:
            return channel.unary_unary(f"/test.S/{method}")(content, **{"timeout": 20, **said})

        yield ask


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_530, 65_531, 1_000_000, 16 << 20])
async def test_messages_of_any_size_come_back(ask: Ask, size: int) -> None:
    content = random.Random(size).randbytes(size)
    assert await ask(content) == content


@pytest.mark.parametrize("how", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_message_that_is_packed_comes_back(ask: Ask, how: grpc.Compression) -> None:
    assert await ask(b"abc" * 10_000, compression=how) == b"abc" * 10_000


async def test_many_calls_at_once_are_each_answered(ask: Ask) -> None:
    contents = [b"%d" % number * (number % 500) for number in range(1_000)]
    assert await asyncio.gather(*map(ask, contents)) == contents


async def test_large_messages_at_once_are_each_answered(ask: Ask) -> None:
    contents = [bytes((number,)) * 5_000_000 for number in range(20)]
    assert await asyncio.gather(*map(ask, contents)) == contents


async def test_a_synchronous_client_is_answered_too(served: Served) -> None:
    def calls() -> list[bytes]:
        with grpc.insecure_channel(f"{HOST}:{served.port}") as channel:
            echo = channel.unary_unary("/test.S/Echo")
            return [echo(b"%d" % number, timeout=20) for number in range(100)]

    assert await asyncio.to_thread(calls) == [b"%d" % number for number in range(100)]


REFUSALS = {
    "what a method says": ("Refuse", "ß 100 %\n", grpc.StatusCode.FAILED_PRECONDITION, "ß 100 %\n"),
    "an unknown method": ("Nothing", "x", grpc.StatusCode.UNIMPLEMENTED, "/test.S/Nothing: there is no such method"),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_arrives_with_its_status_and_its_words(ask: Ask, name: str) -> None:
    method, said, code, details = REFUSALS[name]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(said.encode(), method)
    assert (raised.value.code(), raised.value.details()) == (code, details)


async def test_a_message_that_is_too_large_is_refused_while_others_go_on(ask: Ask) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="at most 16777216; send it in parts") as raised:
        await ask(bytes(17 << 20))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await ask(b"small") == b"small"


async def test_deadlines_and_cancelled_calls_leave_nothing_behind(served: Served, ask: Ask) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(b"x", "Wait", timeout=0.05)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    cancelled = ask(b"y", "Wait")
    await until(lambda: len(served.waiting) == 2)
    cancelled.cancel()
    (connection,) = served.door.connections
    await until(lambda: not connection._calls.open)
    assert await ask(b"small") == b"small"


async def test_at_the_end_calls_are_answered_and_clients_go_elsewhere(served: Served, ask: Ask) -> None:
    call = ask(b"x", "Wait")
    await until(lambda: len(served.waiting) == 1)
    draining = asyncio.create_task(served.door.drain(5))
    (connection,) = served.door.connections
    await until(lambda: connection._closing)
    served.waiting[0].answer(b"y")
    assert await call == b"y"
    await draining
    assert not served.door.connections
    assert await ask(b"small") == b"small"  # on a new connection: the socket still listens
