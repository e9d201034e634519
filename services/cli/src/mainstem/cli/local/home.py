"""Where a local platform keeps its things: everything lives below `<root>/.mainstem`."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mainstem.cli.local.errors import NotRunning

FOLDER = ".mainstem"
SOCKET_PATH_BYTES = 107


@dataclass(frozen=True, slots=True)
class Home:
    """The folders and files of one platform; `cache` may be shared by several platforms."""

    root: Path
    cache: Path

    @classmethod
    def at(cls, root: Path, cache: Path | None = None) -> "Home":
        """Place a platform at `root`; without `cache` the jars are kept below it too."""
        root = root.resolve()
        return cls(root, (cache or root / FOLDER / "cache").resolve())

    @property
    def folder(self) -> Path:
        """The one folder that holds everything but a shared cache."""
        return self.root / FOLDER

    @property
    def data(self) -> Path:
        """The servers' data: `kafka`, `postgres`."""
        return self.folder / "data"

    @property
    def logs(self) -> Path:
        """One appended file a process."""
        return self.folder / "logs"

    @property
    def jars(self) -> Path:
        """The broker's jars, each verified."""
        return self.cache / "jars"

    @property
    def state(self) -> Path:
        """What runs: ports, process ids, start times."""
        return self.folder / "state.json"

    @property
    def env(self) -> Path:
        """`export NAME=value` lines for a shell; readable by the owner only, since a password is in it."""
        return self.folder / "env"

    @property
    def password(self) -> Path:
        """The password of the local database; readable by the owner only."""
        return self.folder / "postgres-password"

    @property
    def principals(self) -> Path:
        """The tokens of the local principals; readable by the owner only."""
        return self.folder / "principals.json"

    @property
    def keys(self) -> Path:
        """The keys of the log and of its witness; the secret ones readable by the owner only."""
        return self.folder / "keys"

    @property
    def sockets(self) -> Path:
        """The folder of unix sockets: inside the platform's folder unless a socket's path would be too long there."""
        inside = self.folder / "run"
        if len(os.fsencode(inside / ".s.PGSQL.65535")) <= SOCKET_PATH_BYTES:
            return inside
        return Path(tempfile.gettempdir()) / f"mainstem-{sha256(os.fsencode(self.root)).hexdigest()[:12]}"

    def create(self) -> None:
        """Make the folders, closed to other users where they hold secrets or sockets."""
        for folder in (
            self.data,
            self.logs,
            self.jars,
            self.folder / "artifacts",
            self.folder / "traces",
            self.sockets,
        ):
            folder.mkdir(parents=True, exist_ok=True)
        self.sockets.chmod(0o700)

    def purge(self) -> None:
        """Remove everything that the platform ever wrote at this root, the cache below it included."""
        shutil.rmtree(self.sockets, ignore_errors=True)
        if self.folder.exists():
            shutil.rmtree(self.folder)


def find_home(start: Path) -> Home:
    """Find the platform that `MAINSTEM_HOME` names, or else the nearest one at or above `start`.

    Raises NotRunning when there is none.
    """
    if named := os.environ.get("MAINSTEM_HOME"):
        return Home.at(Path(named))
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FOLDER / "state.json").exists():
            return Home.at(folder)
    raise NotRunning(f"no platform at or above {start}; start one with `mainstem up`, or set MAINSTEM_HOME")


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that only its owner can read, in one step."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
