"""The workers: real processes on real sockets, told by a crew without the service around it."""

import asyncio
import dataclasses
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import httpx
import orjson
import psutil
import pytest
from services.serving.tests.serving_settings import alone

from mainstem.bus.spool import Spool
from mainstem.bus.spool_tail import Tail
from mainstem.inference import open_inference_pb2 as pb
from mainstem.serving import child, routes
from mainstem.serving.blocks import unpack
from mainstem.serving.board import Board
from mainstem.serving.crew import Crew, posts, vacant
from mainstem.serving.domain import Arm, Indexed, Reached, spool_name
from mainstem.serving.managed import Managed
from mainstem.serving.orders import Broken, Sends
from mainstem.serving.routes import Standing
from mainstem.serving.spools import take_over
from mainstem.telemetry import metrics
from mainstem.testkit.waiting import running, until

pytestmark = pytest.mark.fault

HOST = "127.0.0.1"
MIB = 1 << 20
HAMMER = Path(__file__).parents[3] / "tools" / "hammer.py"
BODY = {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}]}


@pytest.fixture
def settings(tmp_path):
    return alone(tmp_path, serving_workers=2)


@asynccontextmanager
async def working(settings, upstream_port=9):
    """Run a crew."""
    crew = Crew(posts(settings, upstream_port))
    async with running(crew.run()):
        yield crew


def processes(crew):
    return [worker._process.pid for worker in crew._workers]


async def ask(client, **said):
    answer = await client.post("/v2/models/storm/infer", json={**BODY, **said})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
async def client(settings):
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{settings.http_port}", timeout=20) as client:
        yield client


def recorded(settings):
    """Return the ids of all answers in the spools."""
    return [dict(message.headers)["ce_id"].decode() for message in spooled(settings)]


def spooled(settings):
    """Return what the spools stand for."""
    found = []
    for folder in sorted(settings.spool_folder.iterdir()):
        tail, number = Tail(folder), 0
        while blocks := tail.read(number):
            found += [message for block in blocks for message in unpack(tail.incarnation, block)]
            number = blocks[-1].first + blocks[-1].count
    return found


async def test_workers_answer_what_they_are_told_and_switch_when_they_are_told(service, settings, client, make):
    await service.deploy(1, bias=0.5)
    async with working(settings) as crew:
        crew.see({(make.topic, 0): Reached().with_row(make.may, 7)})
        crew.route(service.board)
        await until(lambda: crew.fault() is None and all(worker.serial for worker in crew._workers))
        first = await ask(client)
        assert first["outputs"][0]["data"][1] == pytest.approx(make.expected([[1.0, 2.0, 3.0]], bias=0.5)[0])
        assert first["parameters"]["position"] == f"{make.topic}/0/7"
        await service.deploy(2, bias=-1.0)
        assert await crew.warm(service.board.live("storm").onnx, 3) is None
        crew.route(service.board)
        async with asyncio.timeout(5):
            while (await ask(client))["model_version"] != "2":
                pass
        (used, later) = await crew.usage()
        assert (used.version, later.version) == ("1", "2")
        assert used.answered + later.answered == len(recorded(settings))


async def test_a_model_that_workers_cannot_load_is_said_to_whoever_wants_it_warm(service, settings):
    await service.deploy(1)
    unknown = f"sha256:{64 * '0'}"
    async with working(settings) as crew:
        crew.route(service.board)
        await until(lambda: all(worker.serial for worker in crew._workers))
        fault = await crew.warm(unknown, 3)
        assert all(f"worker {number}: " in fault for number in range(2))
        assert unknown in fault


async def test_a_worker_that_ends_while_it_loads_a_model_has_not_loaded_it_and_does_not_try_again(
    service, settings, client
):
    await service.deploy(1)
    large = service.artifacts.put(bytes(200 * MIB))
    async with working(settings) as crew:
        crew.route(service.board)
        await until(lambda: all(worker.serial for worker in crew._workers))
        async with running(killing(crew, most=150 * MIB)):  # as the kernel does when memory is short
            fault = await crew.warm(large, 3)
        assert all(f"worker {number}: it ended before it had loaded the model" in fault for number in range(2))
        await until(lambda: all(worker.serial for worker in crew._workers))
        await ask(client)


async def killing(crew, most):
    """Kill workers that take so much memory."""
    while True:
        for pid in processes(crew):
            with suppress(psutil.Error, ProcessLookupError):
                if psutil.Process(pid).memory_info().rss > most:
                    os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0)


def circle(file):
    """Put a link to itself in the place of a file."""
    file.unlink()
    file.symlink_to(file.name)


@pytest.mark.parametrize("spoil", [Path.unlink, circle])
async def test_a_model_that_answered_before_and_cannot_be_read_any_more_is_no_fault(service, settings, client, spoil):
    await service.deploy(1, bias=0.5)
    before = service.board.live("storm").onnx
    await service.deploy(2, bias=-1.0)
    spoil(settings.artifacts / before[7:9] / before[7:])
    async with working(settings) as crew:
        crew.route(service.board)
        await until(lambda: all(worker.serial for worker in crew._workers))
        assert (await ask(client))["model_version"] == "2"
        assert crew.fault() is None


@asynccontextmanager
async def hammered(settings, body, seconds):
    """Have `tools/hammer.py` ask on all its connections while the block runs; then no request may have failed."""
    hammer = await asyncio.create_subprocess_exec(
        sys.executable, str(HAMMER), f"http://{HOST}:{settings.http_port}/v2/models/storm/infer",
        *("--body", str(body), "-s", str(seconds), "-c", "32", "--budget", "errors=0", "-o", "json"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    figures = {}
    yield figures
    out, _ = await hammer.communicate()
    figures |= orjson.loads(out)
    assert hammer.returncode == 0, figures


async def test_switching_under_load_fails_no_request_and_every_answer_is_of_the_version_it_names(
    service, settings, client, make, tmp_path
):
    biases = {1: 0.5, 2: -1.0}
    for version, bias in biases.items():
        await service.deploy(version, bias=bias)
    one, two = await service.store.activations()
    shared = dataclasses.replace(two, arms=(Arm(1, one.onnx, 5_000, shadow=False),))
    boards = [Board(), Board(), Board()]
    for board, order in zip(boards, ([two, one], [one, two], [one, shared]), strict=True):
        board.swap(order)
    (tmp_path / "body").write_bytes(orjson.dumps(BODY))
    scores = {version: make.expected([[1.0, 2.0, 3.0]], bias)[0] for version, bias in biases.items()}
    switches, named = 0, []
    async with working(settings) as crew:
        crew.route(boards[0])
        await until(lambda: all(worker.serial for worker in crew._workers))
        async with hammered(settings, tmp_path / "body", seconds=3) as figures:
            loop = asyncio.get_running_loop()
            end = loop.time() + 3
            while loop.time() < end:
                crew.route(boards[switches % 3])
                switches += 1
                answer = await ask(client)
                named.append(answer["model_version"])
                assert answer["outputs"][0]["data"][1] == pytest.approx(scores[int(named[-1])], abs=1e-15)
    found = [orjson.loads(message.value) for message in spooled(settings)]
    assert len(found) == figures["requests"] + len(named)
    assert {"1", "2"} == set(named)
    assert {event["version"] for event in found} == {1, 2}
    assert all(event["score"] == pytest.approx(scores[event["version"]], abs=1e-15) for event in found)


async def test_a_worker_that_is_killed_is_started_again_and_loses_no_answer(service, settings):
    await service.deploy(1)
    answered = []
    async with working(settings) as crew:
        crew.route(service.board)
        await until(lambda: all(worker.serial for worker in crew._workers))
        for number in range(4):
            async with httpx.AsyncClient(base_url=f"http://{HOST}:{settings.http_port}", timeout=20) as client:
                answered += [(await ask(client))["parameters"]["prediction_id"] for _ in range(20)]
            killed = processes(crew)[number % 2]
            os.kill(killed, signal.SIGKILL)
            await until(lambda killed=killed: killed not in processes(crew) and all(w.serial for w in crew._workers))
    assert len(set(answered)) == 80
    assert sorted(answered) == sorted(recorded(settings))


@pytest.mark.parametrize("found_by", ["a start", "the sender"])
async def test_a_worker_whose_spool_breaks_begins_another_and_answers_again(service, settings, found_by):
    await service.deploy(1)
    spools = [settings.spool_folder / str(number) for number in range(2)]
    async with working(settings) as crew:
        crew.route(service.board)
        await until(lambda: all(worker.serial for worker in crew._workers))
        (spools[0] / "incarnation").write_text("nobody")
        broken = processes(crew)[0]
        if found_by == "a start":
            os.kill(broken, signal.SIGKILL)
        else:
            crew._on_broken(Broken(str(spools[0]), "no name"))
        await until(lambda: broken != processes(crew)[0] and all(worker.serial for worker in crew._workers))
        assert (spools[0].with_name("0.broken-1") / "incarnation").read_text() == "nobody"
        for _ in range(40):  # each on a connection of its own: both workers answer some
            async with httpx.AsyncClient(base_url=f"http://{HOST}:{settings.http_port}", timeout=20) as client:
                await ask(client)
    assert all(any(file.stat().st_size for file in spool.glob("*.blocks")) for spool in spools)


async def test_a_spool_that_cannot_be_set_aside_ends_nobody_and_is_tried_again(settings, monkeypatch):
    spool = settings.spool_folder / "0"
    Spool(spool, MIB).close()
    crew = Crew(posts(settings, 9), sends=Sends([str(spool)]))
    crew._workers[0].broken = "no name"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", full)
        assert not await crew._renew(crew._workers[0])
    assert (crew._workers[0].broken, crew._senders[0].hello) == ("no name", Sends([str(spool)]))
    assert await crew._renew(crew._workers[0])
    assert crew._workers[0].broken is None
    assert spool.with_name("0.broken-1").is_dir()


def full(*_):
    raise OSError(28, "No space left on device")


async def test_the_sender_is_told_of_a_spool_that_was_set_aside(settings):
    spool = settings.spool_folder / "0"
    Spool(spool, MIB).close()
    crew = Crew(posts(settings, 9), sends=Sends([str(spool)]))
    crew._workers[0].broken = "no name"
    await crew._renew(crew._workers[0])
    aside = str(spool.with_name("0.broken-1"))
    assert crew._senders[0].hello == Sends([str(spool), aside])
    assert crew._workers[0].broken is None


async def test_what_a_worker_counted_a_second_before_it_was_killed_stays_counted_though_nobody_asked(
    service, settings, client
):
    await service.deploy(1)
    counted = []
    async with working(settings) as crew:
        crew.route(service.board)
        for number in range(3):
            await until(lambda: all(worker.serial for worker in crew._workers))
            await ask(client)
            await until(lambda number=number: calls(said(crew)) == number + 1, within_s=5)
            killed = processes(crew)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            await until(lambda killed=killed: not set(killed) & set(processes(crew)))
            counted.append((calls(await crew.figures()), sum(used.answered for used in await crew.usage())))
    assert counted == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("ended_by", ["its spool", "SIGTERM"])
async def test_what_workers_counted_until_they_were_told_to_end_stays_counted(service, settings, client, ended_by):
    await service.deploy(1)
    spools = [settings.spool_folder / str(number) for number in range(2)]
    async with working(settings) as crew:
        crew.route(service.board)
        await until(lambda: all(worker.serial for worker in crew._workers))
        names = [spool_name((spool / "incarnation").read_text()) for spool in spools]
        dismissed = processes(crew)
        for _ in range(7):
            await ask(client)
        for spool, pid in zip(spools, dismissed, strict=True):
            if ended_by == "SIGTERM":
                os.kill(pid, signal.SIGTERM)
            else:
                crew._on_broken(Broken(str(spool), "no name"))
        await until(lambda: not set(dismissed) & set(processes(crew)))
        assert calls(await crew.figures()) == 7
        assert sum(used.answered for used in await crew.usage()) == 7
        assert sum(metrics.RECORDED.labels(name)._value.get() for name in names) == 7


async def test_a_worker_that_is_dismissed_and_does_not_end_is_killed(service, settings, monkeypatch):
    monkeypatch.setattr(child, "_STOP_S", 0.2)
    async with working(settings) as crew:
        crew.route(service.board)
        await until(lambda: all(worker.serial for worker in crew._workers))
        hung = processes(crew)[0]
        os.kill(hung, signal.SIGSTOP)
        crew._on_broken(Broken(str(settings.spool_folder / "0"), "no name"))
        await until(lambda: processes(crew)[0] != hung and all(worker.serial for worker in crew._workers))


def said(crew):
    """Return what processes said unasked, and what those said that were in their place before."""
    return [figures for worker in crew._workers for figures in (worker.figures, worker.before) if figures]


def calls(figures):
    """Return how many calls of the model processes counted together."""
    together = metrics.left_behind([each.metrics for each in figures])
    return sum(count for labels, count in together.counts.get("mainstem_calls", {}).items() if labels[0] == "storm")


async def test_a_process_that_cannot_be_started_is_started_later_and_the_others_go_on(
    service, settings, monkeypatch, caplog
):
    await service.deploy(1)
    begin, faults = asyncio.create_subprocess_exec, [BlockingIOError(11, "Resource temporarily unavailable")]

    async def begin_later(*command, **how):
        if faults:
            raise faults.pop()
        return await begin(*command, **how)

    async with working(settings) as crew:
        crew.route(service.board)
        await until(lambda: all(worker.serial for worker in crew._workers))
        killed, beside = processes(crew)
        monkeypatch.setattr(asyncio, "create_subprocess_exec", begin_later)
        os.kill(killed, signal.SIGKILL)
        await until(lambda: processes(crew)[0] != killed and all(worker.serial for worker in crew._workers))
        assert processes(crew)[1] == beside
    assert "worker 0 could not be started: [Errno 11] Resource temporarily unavailable" in caplog.text


async def test_workers_leave_when_the_service_is_gone_and_the_next_takes_their_spools(service, settings, client):
    await service.deploy(1)
    async with working(settings) as crew:
        crew.route(service.board)
        await until(lambda: all(worker.serial for worker in crew._workers))
        await ask(client)
        left = processes(crew)
        for worker in crew._workers:
            worker._channel.close()
        await vacant(HOST, settings.http_port, settings.grpc_port)
        await until(lambda: not any(psutil.pid_exists(pid) for pid in left) or processes(crew) != left)
    spools = await take_over(settings.spool_folder, 1)
    assert [each.name for each in spools] == ["0", "1"]
    assert len(recorded(settings)) == 1


async def test_a_port_that_somebody_else_has_is_an_error_that_says_so(settings):
    server = await asyncio.start_server(lambda *_: None, HOST, settings.http_port)
    with pytest.raises(OSError, match=rf"{HOST}:{settings.http_port} is taken by another process"):
        await vacant(HOST, settings.http_port, within_s=0.1)
    server.close()


async def test_a_model_that_a_worker_cannot_load_is_named_and_loaded_when_it_is_back(
    service, settings, client, tmp_path
):
    await service.deploy(1)
    digest = service.board.live("storm").onnx
    file = tmp_path / "artifacts" / digest[7:9] / digest[7:]
    content = file.read_bytes()
    file.unlink()
    async with working(settings) as crew:
        crew.route(service.board)
        await until(lambda: f"no artifact {digest}" in (crew.fault() or ""))
        answer = await client.post("/v2/models/storm/infer", json=BODY)
        assert answer.status_code == 503
        assert digest in answer.json()["error"]
        told = Managed(service.board, None, crew.faults).index()
        assert [(each.state, digest in each.reason) for each in told] == [("UNAVAILABLE", True)]
        assert told == await index_over_grpc(settings)
        file.write_bytes(content)
        await until(lambda: crew.fault() is None)
        await ask(client)
        told = Managed(service.board, None, crew.faults).index()
        assert [each.state for each in told] == ["READY"]


async def index_over_grpc(settings):
    """Return what a worker says of each version."""
    async with grpc.aio.insecure_channel(f"{HOST}:{settings.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/RepositoryIndex",
            pb.RepositoryIndexRequest.SerializeToString,
            pb.RepositoryIndexResponse.FromString,
        )
        models = (await call(pb.RepositoryIndexRequest())).models
    return [Indexed(each.name, each.version, each.state, each.reason) for each in models]


@pytest.mark.parametrize("server", ["grpcio", "fast"])
async def test_statistics_over_grpc_are_those_of_all_workers_and_say_when_they_cannot_be_told(
    service, settings, server
):
    settings = settings.model_copy(update={"grpc_server": server})
    await service.deploy(1)
    async with working(settings) as crew:
        crew.route(service.board)
        await until(lambda: all(worker.serial for worker in crew._workers))
        async with grpc.aio.insecure_channel(f"{HOST}:{settings.grpc_port}") as channel:
            call = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelStatistics",
                pb.ModelStatisticsRequest.SerializeToString,
                pb.ModelStatisticsResponse.FromString,
            )
            with pytest.raises(grpc.aio.AioRpcError, match="the service that counts is away"):
                await call(pb.ModelStatisticsRequest())


async def test_what_stands_is_kept_and_what_cannot_be_read_is_nothing(service, tmp_path, make):
    await service.deploy(1)
    file = tmp_path / "routes"
    assert routes.load(file) == Standing()
    standing = Standing.of(service.board, service.stream.log)
    routes.save(file, standing)
    assert list(routes.load(file).activations) == list(standing.activations)
    file.write_bytes(file.read_bytes()[:-3])
    assert routes.load(file) == Standing()
