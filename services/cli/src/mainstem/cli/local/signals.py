"""The signals that ask to stop: Ctrl-C, a plain `kill`, the end of the terminal."""

import asyncio
import signal

#: What a shell adds to the number of the signal that ended a program, to get its exit code.
EXIT_BASE = 128


def first_to_stop() -> "asyncio.Future[signal.Signals]":
    """Return a future of the first signal that asks this process to stop; more of them change nothing.

    The end of the terminal does not count for a process that was told to ignore it, as by `nohup`.
    """
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[signal.Signals] = loop.create_future()

    def ask(number: signal.Signals) -> None:
        if not asked.done():
            asked.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, ask, number)
    return asked
