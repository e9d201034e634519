"""The calls by which files change, one by one: to fail each of them, and to think of a machine that stops behind each.

A file's bytes are on the disk once the file was synced; a name, once the folder was in which it stands. What was not
synced may be there or not, each for itself and a write by half, when the machine comes up again: that is what POSIX
promises, and file systems have used all of it.
"""

import asyncio
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

import pytest
from tests.fault.publishing import SIZES, Said, publish
from typing_extensions import override

from mainstem.ledger_service.folder import Folder
from mainstem.witness.memory import Memory

Kind = Literal["open", "create", "write", "fsync", "rename", "mkdir", "heard"]
#: Asked before each call, with its kind and path; may raise, end the process, or say how much of a write is done.
Before = Callable[[Kind, Path], float]

#: Combinations of what is lost and what is not that are all tried; of more, those that differ in one thing.
_MOST: Final = 256


@dataclass(frozen=True, slots=True)
class Step:
    """One call that was made, or something that was said between two calls."""

    kind: Kind
    path: str = ""
    #: Of a file, whatever it is called; a folder has its path alone.
    file: int = 0
    data: bytes = b""
    #: What it is called from then on, of `rename`.
    name: str = ""
    said: Said | None = None


class Disk:
    """Sees every call that changes something below `root` while it is `watched`, and writes it down."""

    def __init__(self, root: Path, before: Before = lambda *_: 1.0) -> None:
        self.steps: list[Step] = []
        self._root = root
        self._before = before
        self._handles: dict[int, str] = {}
        #: What stands under a name, by number.
        self._files: dict[str, int] = {}

    def hear(self, said: Said) -> None:
        """Write down what was said."""
        self.steps.append(Step("heard", said=said))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take the place of the calls that Python makes for `pathlib` and for us."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(io, "open", self._opening(io.open))
            patch.setattr(os, "open", self._handling(os.open))
            patch.setattr(os, "fsync", self._syncing(os.fsync))
            patch.setattr(os, "replace", self._renaming(os.replace))
            patch.setattr(os, "mkdir", self._making(os.mkdir))
            yield

    def wrote(self, path: str, data: bytes) -> None:
        """Write down what a file took."""
        self.steps.append(Step("write", path, self._files[path], data))

    def before(self, kind: Kind, path: str) -> float:
        """Ask what shall become of a call."""
        return self._before(kind, self._root / path)

    def _below(self, path: object) -> str | None:
        """Return a path below the root; None for one elsewhere."""
        try:
            return Path(os.fspath(path)).relative_to(self._root).as_posix()  # type: ignore[call-overload]
        except (TypeError, ValueError):
            return None

    def _opening(self, real: Callable[..., IO[Any]]) -> Callable[..., IO[Any]]:
        def opened(file: object, mode: str = "r", *rest: Any, **more: Any) -> IO[Any]:
            path = self._below(file)
            if path is None:
                return real(file, mode, *rest, **more)
            if mode != "wb":
                self.before("open", path)
                return real(file, mode, *rest, **more)
            self.before("create", path)
            raw = _Raw(self, path, self._root / path)
            self._handles[raw.fileno()] = path
            self._files[path] = len(self.steps) + 1
            self.steps.append(Step("create", path, self._files[path]))
            return io.BufferedWriter(raw)

        return opened

    def _handling(self, real: Callable[..., int]) -> Callable[..., int]:
        def opened(file: object, *rest: Any, **more: Any) -> int:
            path = self._below(file)
            if path is not None:
                self.before("open", path)
            handle = real(file, *rest, **more)
            if path is not None:
                self._handles[handle] = path
            return handle

        return opened

    def _syncing(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def synced(handle: int) -> None:
            path = self._handles[handle]
            self.before("fsync", path)
            real(handle)
            self.steps.append(Step("fsync", path, self._files.get(path, 0)))

        return synced

    def _renaming(self, real: Callable[..., None]) -> Callable[..., None]:
        def renamed(old: object, new: object) -> None:
            path, name = self._below(old), self._below(new)
            assert path is not None
            assert name is not None
            self.before("rename", path)
            real(old, new)
            self._files[name] = self._files.pop(path)
            self.steps.append(Step("rename", path, self._files[name], name=name))

        return renamed

    def _making(self, real: Callable[..., None]) -> Callable[..., None]:
        def made(file: object, *rest: Any, **more: Any) -> None:
            path = self._below(file)
            assert path is not None
            self.before("mkdir", path)
            real(file, *rest, **more)
            self.steps.append(Step("mkdir", path))

        return made


class _Raw(io.FileIO):
    """A file that asks before each write."""

    def __init__(self, disk: Disk, path: str, file: Path) -> None:
        super().__init__(file, "wb")
        self._disk = disk
        self._path = path

    @override
    def write(self, data: Any, /) -> int:
        part = bytes(data)[: max(1, int(len(data) * self._disk.before("write", self._path)))]
        written = super().write(part)
        self._disk.wrote(self._path, part)
        return written


def recorded(root: Path, folder: type[Folder] = Folder, memory: type[Memory] = Memory) -> list[Step]:
    """Return the calls of one undisturbed run below a folder that is not there yet."""
    root.mkdir()
    disk = Disk(root)
    with disk.watched():
        asyncio.run(publish(root, SIZES, disk.hear, folder=folder, memory=memory))
    return disk.steps


#: What a machine finds that comes up again: files by path, None for a folder.
Found = Mapping[str, bytes | None]


def crashes(steps: Sequence[Step]) -> Iterator[tuple[Found, list[Said]]]:
    """Yield what may be found after each call, each once, and what had been said by then."""
    seen = set()
    for end in range(len(steps) + 1):
        said = [step.said for step in steps[:end] if step.said]
        for found in _found(steps[:end]):
            if (mark := (frozenset(found.items()), len(said))) not in seen:
                seen.add(mark)
                yield found, said


def _found(steps: Sequence[Step]) -> Iterator[Found]:
    """Yield what may be found after these calls."""
    parts = [_parts(step, steps[place + 1 :]) for place, step in enumerate(steps)]
    for chosen in _choices(parts):
        yield _replayed(zip(steps, chosen, strict=True))


def _parts(step: Step, later: Sequence[Step]) -> tuple[float, ...]:
    """Return which parts of a call may be on the disk, none of it first, if there is a doubt."""
    if step.kind in ("fsync", "heard"):
        return (1.0,)
    if step.kind == "write":
        durable = any(each.kind == "fsync" and each.file == step.file for each in later)
        return (1.0,) if durable else (0.0, 0.5, 1.0)
    folder = os.path.dirname(step.name or step.path) or "."  # noqa: PTH120  # a text, and no file is meant
    durable = any(each.kind == "fsync" and each.path == folder for each in later)
    return (1.0,) if durable else (0.0, 1.0)


def _choices(parts: Sequence[tuple[float, ...]]) -> Iterator[tuple[float, ...]]:
    combinations = 1
    for each in parts:
        combinations *= len(each)
    if combinations <= _MOST:
        yield from itertools.product(*parts)
        return
    for side in (0, -1):
        most = tuple(each[side] for each in parts)
        yield most
        for place, each in enumerate(parts):
            yield from ((*most[:place], other, *most[place + 1 :]) for other in each if other != most[place])


def _replayed(steps: Iterable[tuple[Step, float]]) -> Found:
    """Return what is on the disk of these calls, each as far as it got there."""
    names: dict[str, int | None] = {".": None}
    data: dict[int, bytes] = {}
    for step, part in steps:
        if step.kind == "write":
            data[step.file] = data.get(step.file, b"") + step.data[: int(len(step.data) * part)]
        elif part and step.kind == "rename":
            names.pop(step.path, None)
            names[step.name] = step.file
        elif part and step.kind in ("create", "mkdir"):
            names[step.path] = step.file if step.kind == "create" else None
    whole = (name for name in names if all(str(above) in names for above in Path(name).parents))
    return {name: None if (file := names[name]) is None else data.get(file, b"") for name in whole if name != "."}


def lay_out(found: Found, root: Path) -> None:
    """Make what was found below a folder that is not there yet."""
    root.mkdir()
    for name, data in sorted(found.items()):
        if data is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(data)
