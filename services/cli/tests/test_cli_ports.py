"""Ports on loopback."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from mainstem.cli.local import ports
from mainstem.cli.local.graph import default_ports
from mainstem.cli.local.ports import Reservation


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((ports.HOST, 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free() -> int:
    return ports.anywhere(["kafka"])["kafka"]


def test_a_taken_port_gives_the_next_free_one(taken: int) -> None:
    with closing(Reservation({"kafka": taken})) as reservation:
        assert reservation["kafka"] > taken


def test_a_free_port_is_kept(free: int) -> None:
    with closing(Reservation({"kafka": free})) as reservation:
        assert reservation["kafka"] == free


def test_no_two_names_share_a_port(taken: int) -> None:
    with closing(Reservation({"a": taken, "b": taken, "c": taken + 1})) as reservation:
        assert len({reservation[name] for name in "abc"}) == 3


def test_reservations_that_are_made_at_once_share_no_port(free: int) -> None:
    wanted = {name: free + place for place, name in enumerate("abcdef")}
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: Reservation(wanted), range(8)))
    given = [reservation[name] for reservation in made for name in wanted]
    for reservation in made:
        reservation.close()
    assert len(set(given)) == 48


def test_a_server_can_listen_on_a_reserved_port(free: int) -> None:
    with closing(Reservation({"kafka": free})), socket.create_server((ports.HOST, free)):
        assert ports.listens(os.getpid(), [free])


HOLDER = """
import sys
from mainstem.cli.local.ports import Reservation
held = Reservation({"kafka": int(sys.argv[1])})
print(held["kafka"], flush=True)
sys.stdin.read()
"""


def test_a_reservation_ends_with_its_process_however_that_ends(free: int) -> None:
    command = (sys.executable, "-c", HOLDER, str(free))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == f"{free}\n"
        with closing(Reservation({"kafka": free})) as meanwhile:
            assert meanwhile["kafka"] != free
        holder.send_signal(signal.SIGKILL)
    with closing(Reservation({"kafka": free})) as afterwards:
        assert afterwards["kafka"] == free


def test_only_lost_ports_are_replaced(free: int) -> None:
    with closing(Reservation({"kafka": free, "postgres": free + 20})) as reservation:
        with socket.create_server((ports.HOST, free)):
            reservation.replace([free])
            assert reservation["kafka"] > free
        assert reservation["postgres"] == free + 20


def test_a_process_listens_where_all_of_these_ports_are_its_own(taken: int) -> None:
    assert ports.listens(os.getpid(), [taken])
    assert not ports.listens(os.getpid(), [taken, ports.anywhere(["other"])["other"]])


def test_another_process_does_not_listen_here_nor_does_one_that_is_gone(taken: int) -> None:
    with subprocess.Popen((sys.executable, "-S", "-c", "input()"), stdin=subprocess.PIPE) as other:
        assert not ports.listens(other.pid, [taken])
        other.kill()
    assert not ports.listens(other.pid, [taken])


def test_random_ports_lie_below_those_of_outgoing_connections() -> None:
    chosen = ports.anywhere(default_ports())
    assert all(20_000 <= port < 32_768 for port in chosen.values())
    assert len(set(chosen.values())) == len(default_ports())
