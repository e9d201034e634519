"""Serving, put together: first what has the workers answer, then everything else."""

import asyncio
import signal
import socket
from functools import partial
from importlib import import_module
from typing import Final

from mainstem.runtime import run
from mainstem.serving import routes
from mainstem.serving.board import Board
from mainstem.serving.crew import LOCAL, WORKER, Crew, posts, vacant
from mainstem.serving.files import room, take_all
from mainstem.serving.orders import Sends
from mainstem.serving.settings import Settings
from mainstem.serving.spools import take_over
from mainstem.telemetry import configure

#: It brings broker, database, models and pages, half a second of processor time: that is for the workers first.
_SERVICE: Final = "mainstem.serving.service"


async def main(worker: str = WORKER) -> None:
    """Run the service until it is stopped: first the workers by what stood last, then everything else."""
    settings = Settings()
    configure(settings.log_level)
    room()  # where there is none, no worker could begin
    take_all()  # each worker asks the service on many connections at once
    spools = await take_over(settings.spool_folder, settings.serving_workers)
    await vacant(settings.http_host, settings.http_port, settings.grpc_port)
    with socket.socket() as rest:
        rest.bind((LOCAL, 0))
        crew = Crew(posts(settings, rest.getsockname()[1]), worker, Sends([str(each) for each in spools]))
        async with asyncio.TaskGroup() as group:
            working = group.create_task(crew.run())
            serving = group.create_task(work(settings, crew, rest))
            for number in (signal.SIGTERM, signal.SIGINT):  # until the service is there, and minds them itself
                asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
            await asyncio.wait([serving])
            working.cancel()


async def work(settings: Settings, crew: Crew, rest: socket.socket) -> None:
    """Have answer what stood last; then load the service, and serve."""
    changed, file = asyncio.Event(), settings.spool_folder / "routes"

    def routed(board: Board) -> None:
        crew.route(board)
        changed.set()

    board, before = Board(routed), routes.load(file)
    board.follow(before.lookups)
    board.let_drop(before.droppable)
    board.swap(before.activations)
    crew.see(before.reached)
    await crew.begun()
    service = await asyncio.to_thread(import_module, _SERVICE)
    await service.work(settings, crew, board, partial(routes.keep, file, changed=changed), rest)


if __name__ == "__main__":
    run(main)
