"""Ports on loopback."""

import socket
from collections.abc import Iterator

import pytest

from mainstem.cli.local import ports
from mainstem.cli.local.graph import default_ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((ports.HOST, 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_gives_the_next_free_one(taken: int) -> None:
    assert ports.choose({"kafka": taken})["kafka"] > taken


def test_a_free_port_is_kept() -> None:
    with socket.create_server((ports.HOST, 0)) as server:
        free = server.getsockname()[1]
    assert ports.choose({"kafka": free}) == {"kafka": free}


def test_no_two_names_share_a_port(taken: int) -> None:
    chosen = ports.choose({"a": taken, "b": taken, "c": taken + 1})
    assert len(set(chosen.values())) == 3


def test_random_ports_lie_below_those_of_outgoing_connections() -> None:
    chosen = ports.anywhere(default_ports())
    assert all(20_000 <= port < 32_768 for port in chosen.values())
    assert len(set(chosen.values())) == len(default_ports())
