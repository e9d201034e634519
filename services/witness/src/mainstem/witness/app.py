"""The witness, put together."""

import time
from dataclasses import dataclass

from mainstem.events.errors import Rejected
from mainstem.ledger.keys import LogKey, Secret, read_log_key
from mainstem.runtime import run, serve
from mainstem.runtime.health import Health
from mainstem.telemetry import configure
from mainstem.witness.api import Api
from mainstem.witness.memory import Memory
from mainstem.witness.settings import Settings


@dataclass(frozen=True, slots=True)
class _Served:
    """What `serve` needs to know of a process."""

    name: str
    settings: Settings
    health: Health


async def main() -> None:
    """Run the witness until it is stopped."""
    settings = Settings()
    configure(settings.log_level)
    secret = Secret.parse(settings.witness_secret.read_text())
    memory = Memory(settings.witness_state, secret.witness_key)
    with memory.held():
        api = Api(memory, secret, logs(settings.log_vkey.read_text()), lambda: int(time.time()))
        await serve(_Served("witness", settings, Health()), tasks=[], routes=api.routes())


def logs(text: str) -> dict[str, LogKey]:
    """Return the keys of logs by origin, one a line; raise Rejected when there is none, or two are of one name."""
    keys = [read_log_key(line) for line in text.split()]
    found = {key.name: key for key in keys}
    if not keys or len(found) < len(keys):
        raise Rejected("the keys of the logs are read one a line, each under a name of its own")
    return found


if __name__ == "__main__":
    run(main)
