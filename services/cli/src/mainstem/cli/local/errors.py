"""What can go wrong with the local platform.

LocalError
├── AlreadyRunning   a supervisor holds this folder
├── NotRunning       no supervisor holds this folder
├── JarMismatch      a jar is not the one in the lock
├── JarUnavailable   a jar is neither cached nor within reach
├── NoLauncher       PostgreSQL cannot be started by this user on this machine
├── SetupFailed      a program that prepares a server ended badly
└── CrashLoop        a process ends again and again
"""

from mainstem.events.errors import MainstemError


class LocalError(MainstemError):
    """The root of the errors of the local platform; the message says what to do."""


class AlreadyRunning(LocalError):
    """Another supervisor holds the folder; use that one or stop it first."""


class NotRunning(LocalError):
    """There is no running platform where one is needed."""


class JarMismatch(LocalError):
    """A jar's SHA-256 differs from the lock; it is not used."""


class JarUnavailable(LocalError):
    """A jar is not in the cache and could not be fetched."""


class NoLauncher(LocalError):
    """PostgreSQL refuses to run as root and there is no way to drop root here."""


class SetupFailed(LocalError):
    """A program that prepares a server ended with an error; the message holds its last lines."""


class CrashLoop(LocalError):
    """A process ended too often in too short a time; the message holds its last log lines."""
