"""What a supervisor tells the world about itself: `state.json`."""

import os
import signal
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

CLOCK_STEP_S = 2.0


class Status(StrEnum):
    """Where a process stands."""

    #: Something that it needs is not ready yet.
    WAITING = "waiting"
    #: Its files are fetched or made.
    PREPARING = "preparing"
    #: It runs and does not answer yet.
    STARTING = "starting"
    #: It answered its probe.
    READY = "ready"
    #: It ended and will be started again.
    RESTARTING = "restarting"
    #: It ended for good.
    STOPPED = "stopped"


class Alive(BaseModel):
    """One run of a process: the id alone is not enough, since ids come back."""

    model_config = ConfigDict(frozen=True)

    pid: int
    #: Seconds since 1970, as the kernel counts them.
    started: float

    @classmethod
    def of(cls, pid: int) -> "Alive | None":
        """Describe the run that has this id now; None when there is none or only a zombie is left."""
        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else cls(pid=pid, started=process.create_time())
        except psutil.NoSuchProcess:
            return None

    def runs(self) -> bool:
        """Tell whether this very run still goes on."""
        now = Alive.of(self.pid)
        # Start times are counted from the boot time, which moves a little when the clock is set.
        return now is not None and abs(now.started - self.started) < CLOCK_STEP_S

    def end(self, number: signal.Signals, within: float) -> bool:
        """Signal the run and wait for its end; tell whether it ended within so many seconds."""
        if self.runs():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
        deadline = time.monotonic() + within
        while self.runs():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


class ProcessState(BaseModel):
    """One process as the supervisor sees it."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Status
    address: str
    restarts: int
    run: Alive | None


class PlatformState(BaseModel):
    """The whole platform as its supervisor sees it."""

    model_config = ConfigDict(frozen=True)

    supervisor: Alive
    processes: tuple[ProcessState, ...]
    #: Why the platform gave up, with the last log lines of the process that is to blame.
    failure: str | None = None

    @property
    def ready(self) -> bool:
        """Whether every process answers."""
        return all(process.status is Status.READY for process in self.processes)

    def write(self, path: Path) -> None:
        """Replace the file in one step, so that a reader never sees half of it."""
        temporary = path.with_name(f"{path.name}.new")
        temporary.write_text(self.model_dump_json(indent=2), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> "PlatformState | None":
        """Read what the last supervisor wrote, running or not; None when there is nothing that can be read."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def clear_leftovers(self) -> None:
        """End what a supervisor that was killed may have left: PostgreSQL on its way down, or more without a leash."""
        runs = [process.run for process in self.processes if process.run]
        for run in runs:
            if not run.end(signal.SIGINT, within=2.0):
                run.end(signal.SIGKILL, within=2.0)
