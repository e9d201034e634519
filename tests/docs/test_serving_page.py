"""docs/serving.md, read to the end at one go: its commands run against the server that it starts, its tables true."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.docs.pages import CHECKOUT, blocks, programs, rows, sessions, tables

from mainstem.cli.local.ports import anywhere
from mainstem.direct import Limits, most_unpacked
from mainstem.project import load_folder
from mainstem.runtime import ServiceSettings
from mainstem.serving import answers, bodies, grpc_fast, hot_api, rpc, wire
from mainstem.serving.entities import AsOf
from mainstem.serving.lookup import Lookup
from mainstem.serving.ports import Answer
from mainstem.serving.settings import Settings

PAGE = CHECKOUT / "docs" / "serving.md"
SESSIONS = sessions(PAGE)
BIN = Path(sys.executable).parent
#: A command takes no longer, however busy the machine is.
LONGEST_S = 120


class Reader:
    """Runs commands in a folder of its own, on ports that are free in the place of those of the page."""

    def __init__(self, folder: Path) -> None:
        ports = anywhere({"http": 0, "grpc": 0})
        self.ports = {"8000": str(ports["http"]), "8001": str(ports["grpc"])}
        self.folder = folder
        self.servers: list[subprocess.Popen[str]] = []
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}{os.pathsep}{self._stand_in()}"
        self.environment = {**os.environ, "PATH": path}
        (folder / "tools").symlink_to(CHECKOUT / "tools")
        for name, text in programs().items():
            (folder / name).write_text(self.here(text))

    def _stand_in(self) -> Path:
        """Return a folder with a grpcurl, which is found where the machine has none."""
        command = self.folder / "bin" / "grpcurl"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {CHECKOUT}/tests/docs/grpcurl.py "$@"\n')
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        return command.parent

    def here(self, text: str) -> str:
        """Return a text of the page with the ports of this run."""
        return re.sub("800[01]", lambda port: self.ports[port[0]], text)

    def run(self, text: str) -> str:
        """Return what a command prints; one that goes on in the background is waited for until it serves."""
        if text.endswith(" &"):
            return self._start(text.removesuffix(" &"))
        done = subprocess.run(
            ["sh", "-c", self.here(text)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout if done.stdout.endswith("\n") or not done.stdout else f"{done.stdout}\n"

    def _start(self, text: str) -> str:
        ports = ["--http-port", self.ports["8000"], "--grpc-port", self.ports["8001"]]
        server = subprocess.Popen(
            [*text.split(), *ports], cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True
        )
        self.servers.append(server)
        assert server.stderr is not None
        printed = ""
        while not printed.endswith("is recorded\n"):
            line = server.stderr.readline()
            assert line, f"the server ended: {printed}"
            printed += line
        return printed


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, clean_environment: None) -> Iterator[Reader]:
    reading = Reader(tmp_path_factory.mktemp("reader"))
    yield reading
    for server in reading.servers:
        server.send_signal(signal.SIGINT)
        assert server.communicate(timeout=LONGEST_S)[1] == ""
        assert server.returncode == 0


@pytest.fixture(scope="module")
def printed(reader: Reader) -> list[str]:
    """Run all the page's commands in their order."""
    return ["".join(reader.run(command.text) for command in commands) for commands, _ in SESSIONS]


@pytest.mark.parametrize("number", range(len(SESSIONS)), ids=lambda number: SESSIONS[number][0][0].text[:70])
def test_commands_print_what_the_page_shows(reader: Reader, printed: list[str], number: int) -> None:
    assert is_shown(printed[number], reader.here(SESSIONS[number][1])), printed[number]


def is_shown(printed: str, shown: str) -> bool:
    """Tell whether a page shows what was printed; … stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, shown.rstrip("\n").split("…"))) + "\n*", printed) is not None


def test_the_answer_by_entity_has_the_form_that_the_page_shows() -> None:
    (shown,) = [block.text for block in blocks(PAGE) if block.language == "text" and '"features_applied"' in block.text]
    lookup = Lookup(load_folder(CHECKOUT / "projects" / "flights"), "flight_delay")
    ages, definition = dict.fromkeys(lookup.ages(), 1.5), "sha256:" + "d" * 64
    as_of = AsOf("flight_delay", definition, "2013-01-02T00:00:00.000000Z", 0, 41, ages, [])
    given = Answer("arrival_delay", 1, "call 9", np.array([[0.75, 0.25]]), "a/0/1", as_of.at, "f" * 32, as_of)
    assert is_shown(wire.plain(given, "f" * 32).decode(), shown)


def test_the_page_shows_what_every_command_prints() -> None:
    assert [commands[0].place for commands, shown in SESSIONS if not shown] == []


def test_curl_is_there() -> None:
    assert shutil.which("curl"), "install curl, which the page calls"


def test_the_table_of_errors_is_that_of_both_transports() -> None:
    listed = {(row[1], row[2]) for row in rows(PAGE) if len(row) == 3 and row[1].isdecimal()}
    assert listed == {(str(status), rpc.STATUS[kind].name) for kind, status in bodies.STATUS.items()}


def test_the_table_of_limits_has_those_in_force() -> None:
    (listed,) = [dict(body) for head, *body in tables(PAGE) if head == ["what", "at most"]]
    limits = Limits()
    assert bodies.MAX_BODY_BYTES == limits.body_bytes == rpc.MAX_MESSAGE_BYTES
    assert list(listed.values()) == [
        f"{answers.MAX_ROWS}",
        f"{2 * answers.MAX_ROWS * hot_api.FEW_COLUMNS}",
        f"{limits.body_bytes >> 20} MiB",
        f"{most_unpacked((16 << 10) - 1, limits.body_bytes) >> 10} KiB",
        f"{limits.header_bytes >> 10} KiB",
        f"{grpc_fast.LIMITS.header_bytes >> 10} KiB",
        f"{answers.MAX_NAME} characters",
        f"{limits.request_s:.0f} s",
        f"{limits.idle_s:.0f} s",
        f"{limits.pipelined}; {grpc_fast.LIMITS.streams} with `fast`",
        f"{grpc_fast.LIMITS.waiting_bytes >> 20} MiB",
        f"{limits.connections}",
        f"{grpc_fast.LIMITS.connections}",
    ]


def test_the_table_of_settings_has_each_of_the_service_and_what_it_is_without_one() -> None:
    (listed,) = [body for head, *body in tables(PAGE) if head == ["variable", "without it", "what it is"]]
    own = {name: field for name, field in Settings.model_fields.items() if name not in ServiceSettings.model_fields}
    assert [(variable.strip("`"), default.strip("`")) for variable, default, _ in listed] == [
        (f"MAINSTEM_{name.upper()}", "" if field.is_required() else str(field.default)) for name, field in own.items()
    ]
