"""The ONNX files of a folder as models, for developers: nobody approved them, and nothing is recorded of them."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from mainstem.events.errors import MainstemError
from mainstem.inference import Answer, Request, Signature, Tensor
from mainstem.inference.errors import DeadlineExceeded, NoAnswer, NotReady, Unknown
from mainstem.intake import Admitted, Limits, Refused, admit
from mainstem.serving import wire
from mainstem.serving.domain import Indexed, Usage
from mainstem.serving.loader import Gate
from mainstem.serving.models import Inference
from mainstem.serving.sessions import NotServable, Session

#: What every answer and every model says of itself.
MARK: Final = "unmanaged"
_FILE: Final = "model.onnx"
_UNLOADED: Final = "unloaded"
_LIMITS: Final = Limits(rows=False)


@dataclass(slots=True)
class _Version:
    """One file: loaded, or why not."""

    files: Sequence[Path]
    usage: Usage
    session: Session | None = None
    reason: str = ""

    def load(self, gate: Gate) -> None:
        """Read the file anew, and load it if it passes the gate."""
        try:
            content = _content(self.files)
            gate(content)
            self.session, self.reason = Session(content), ""
        except (OSError, Refused, NotServable) as fault:
            self.session, self.reason = None, f"{_shown(self.files[0])}: {fault}"


def pass_gate(content: bytes) -> Admitted:
    """Let in what approved models are let in by, whatever the shapes: nothing here makes batches of calls."""
    return admit(content, _LIMITS)


class Folder:
    r"""The Models of a folder: `NAME.onnx` is version 1 of a model, `NAME/VERSION/model.onnx` any version of one.

    Each byte of a name that is no UTF-8 is written as `\xNN`.

    Without a version the highest one answers. A run takes place in a thread, so that a slow model keeps nobody else
    from being told how things are; one at a time.
    """

    def __init__(self, folder: Path, gate: Gate = pass_gate) -> None:
        """Load every file that passes the gate, which takes its time; the others are in the index, with the reason."""
        self._folder = folder
        self._gate = gate
        # What takes the time are the sandboxes of the gate, each a process.
        self._loading = ThreadPoolExecutor(os.cpu_count(), "load")
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "model")
        #: Versions by model, the one that answers last.
        self._models: dict[str, dict[str, _Version]] = {}
        for name, version, files in _files(folder):
            self._models.setdefault(name, {})[version] = _Version(files, Usage(name, version))
        list(self._loading.map(self._load, self._all()))

    def close(self) -> None:
        """End what runs."""
        for version in self._all():
            if version.session is not None:
                version.session.stop()
        self._loading.shutdown(cancel_futures=True)
        self._thread.shutdown(cancel_futures=True)

    def fault(self) -> str | None:
        """Tell which files cannot be loaded, and why; None when all are, or were unloaded."""
        return "; ".join(each.reason for each in self._all() if each.reason not in ("", _UNLOADED)) or None

    def ready(self, model: str, version: str | None) -> None:
        """Return when the model answers. Raises Unknown or NotReady."""
        self._loaded(model, version)

    def metadata(self, model: str, version: str | None) -> Mapping[str, object]:
        """Return what the protocol says about a model, and that it is unmanaged. Raises Unknown or NotReady."""
        name, session = self._loaded(model, version)
        versions = self._models[model]
        return {
            "name": model,
            "versions": [each for each, found in versions.items() if found.session is not None],
            "platform": wire.PLATFORM,
            **wire.told(session.signature),
            "properties": {MARK: "true", "file": _shown(versions[name].files[0].relative_to(self._folder))},
        }

    def index(self) -> Sequence[Indexed]:
        """Return every file that there was at the start, or at the last load of its model."""
        return [
            Indexed(each.usage.name, each.usage.version, "UNAVAILABLE" if each.reason else "READY", each.reason)
            for each in self._all()
        ]

    async def load(self, model: str) -> None:
        """Read the files of a model anew, and answer by them. Raises Unknown when there are none.

        Raises NotReady when one cannot be loaded; then what answered before goes on.
        """
        before, found = self._models.get(model, {}), dict[str, _Version]()
        for name, version, files in await asyncio.to_thread(lambda: list(_files(self._folder))):
            if name == model:
                usage = before[version].usage if version in before else Usage(name, version)
                found[version] = _Version(files, usage)
        if not found:
            self._models.pop(model, None)
            raise Unknown(f"there is no {model}.onnx and no {model}/VERSION/{_FILE} in {_shown(self._folder)}")
        loads = [self._loop.run_in_executor(self._loading, self._load, each) for each in found.values()]
        await asyncio.gather(*loads)
        faults = [each.reason for each in found.values() if each.reason]
        answering = any(each.session for each in before.values())
        if not faults or not answering:
            self._models[model] = found
        if faults:
            raise NotReady("; ".join([*faults, *["what answered before goes on"] * answering]))

    async def unload(self, model: str) -> None:
        """Forget the model until it is loaded again. Raises Unknown."""
        for version in self._known(model).values():
            version.session, version.reason = None, _UNLOADED

    async def statistics(self, model: str | None, version: str | None) -> Sequence[Mapping[str, object]]:
        """Return what was done for a model, or for all. Raises Unknown or NotReady."""
        if model is None:
            return [wire.used(each.usage) for each in self._all()]
        if version is not None:
            self._loaded(model, version)
        versions = self._known(model)
        return [wire.used(each.usage) for name, each in versions.items() if version in (None, name)]

    def signature(self, model: str, version: str | None) -> Signature:
        """Return what a model takes and gives. Raises Unknown or NotReady."""
        return self._loaded(model, version)[1].signature

    def infer(self, inference: Inference, done: Callable[[Answer | MainstemError], None]) -> None:
        """Run the model in the thread; what it raises is the reason."""
        asked = inference.request
        try:
            version, session = self._loaded(inference.model, inference.version)
            usage = self._models[inference.model][version].usage
        except MainstemError as fault:
            return done(fault)
        try:
            session.signature.accept(asked.inputs)
            wanted = asked.wanted(session.signature)
        except MainstemError as fault:
            usage.refused += 1
            return done(fault)
        names = [output.name for output in wanted]
        asked_ns = time.monotonic_ns()
        running = self._loop.run_in_executor(self._thread, _run, session, asked.inputs, names, inference.until)

        def end(run: asyncio.Future[_Ran]) -> None:
            fault = _fault(run)
            if fault is not None:
                usage.refused += 1
                return done(fault)
            ran = run.result()
            if rows := _rows(session.signature, asked):
                usage.ran(rows, ran.ended_ns - ran.began_ns)
            usage.gave(1, ran.began_ns - asked_ns, ran.ended_ns - ran.began_ns, time.time_ns() // 1_000_000)
            outputs = [(tensor, output.raw) for tensor, output in zip(ran.outputs, wanted, strict=True)]
            return done(Answer(inference.model, version, inference.id, outputs, {MARK: True}))

        return running.add_done_callback(end)

    def _load(self, version: _Version) -> None:
        version.load(self._gate)

    def _all(self) -> list[_Version]:
        return [version for _, versions in sorted(self._models.items()) for version in versions.values()]

    def _known(self, model: str) -> dict[str, _Version]:
        found = self._models.get(model)
        if found is None:
            raise Unknown(f"there is no model {model!r}; known: {sorted(self._models)}")
        return found

    def _loaded(self, model: str, version: str | None) -> tuple[str, Session]:
        """Return the version that answers, and its session. Raises Unknown or NotReady."""
        versions = self._known(model)
        name = [*versions][-1] if version is None else version
        found = versions.get(name)
        if found is None:
            raise Unknown(f"there is no version {name!r} of model {model!r}; there are {[*versions]}")
        if found.session is None:
            raise NotReady(f"model {model!r} version {name} does not answer: {found.reason}; load it")
        return name, found.session


def _files(folder: Path) -> Iterator[tuple[str, str, Sequence[Path]]]:
    """Yield model, version and every file that is named so, the versions of a model in their order."""
    found: dict[tuple[str, str], list[Path]] = {}
    for file in [*folder.glob("*.onnx"), *folder.glob(f"*/*/{_FILE}")]:
        parts = (file.stem, "1") if file.parent == folder else (file.parent.parent.name, file.parent.name)
        found.setdefault((_shown(parts[0]), _shown(parts[1])), []).append(file)
    for (model, version), files in sorted(found.items(), key=lambda item: (item[0][0], _order(item[0][1]))):
        yield model, version, files


def _shown(path: Path | str) -> str:
    r"""Return a path as text that everybody can read: a byte that is no UTF-8 is written as `\xNN`."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _content(files: Sequence[Path]) -> bytes:
    """Return what is in a file, which is not read when the gate would not let so much in. Raises OSError or Refused.

    Two of the same model and version are refused: nobody could tell which of them answers.
    """
    file, *others = files
    if others:
        raise Refused(f"{', '.join(map(_shown, others))} is the same version of the same model; remove one")
    if not file.is_file():
        raise Refused("it is no file that can be read; put one in its place")
    size = file.stat().st_size
    if size > _LIMITS.bytes:
        raise Refused(f"it has {size} bytes; a model has at most {_LIMITS.bytes}")
    return file.read_bytes()


def _order(version: str) -> tuple[bool, int, str]:
    """Return what sorts versions: numbers by their value, behind all that are none."""
    number = version.isascii() and version.isdecimal()
    return number, int(version) if number else 0, version


class _Ran(NamedTuple):
    """What a run gave, and its time."""

    outputs: Sequence[Tensor]
    began_ns: int
    ended_ns: int


def _run(session: Session, inputs: Sequence[Tensor], outputs: Sequence[str], until: float) -> _Ran:
    """Run a model unless the answer would come too late. Raises DeadlineExceeded, BadRequest or NoAnswer."""
    began = time.monotonic_ns()
    if began > until * 1e9:
        raise DeadlineExceeded("other calls took too long; wait longer, or ask one after another")
    return _Ran(session.run(inputs, outputs), began, time.monotonic_ns())


def _fault(run: asyncio.Future[_Ran]) -> MainstemError | None:
    """Return why a run gave nothing."""
    if run.cancelled():
        return NotReady("the server ends")
    fault = run.exception()
    if fault is None or isinstance(fault, MainstemError):
        return fault
    return NoAnswer(f"the model failed: {type(fault).__name__}: {fault}")


def _rows(form: Signature, asked: Request) -> int:
    """Return of how many rows a request is: those of the first input, if it has any number of them."""
    batched = bool(form.inputs) and form.inputs[0].shape[:1] == (-1,)
    name = form.inputs[0].name if batched else None
    return next((len(tensor.values) for tensor in asked.inputs if tensor.name == name), 1)
