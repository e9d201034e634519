"""From a project folder to its definition. The only code here that reads files, and that runs an author's Python."""

import hashlib
import importlib
import re
import sys
import tomllib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from mainstem.events.errors import faults
from mainstem.feature_engine import CompiledSet, DefinitionError, FeatureSet
from mainstem.project.charter import Charter
from mainstem.project.contract import SourceContract
from mainstem.project.definition import FeatureSetDefinition, ProjectDefinition
from mainstem.project.errors import ProjectError
from mainstem.project.model import ModelDefinition
from mainstem.project.monitoring import Monitoring
from mainstem.project.serving import Serving

Document = TypeVar("Document", bound=BaseModel)
Part = TypeVar("Part")

#: What an author's code may raise: anything of its own making, and an end. An interrupt is none of its mistakes.
_MISTAKES: Final = (Exception, SystemExit)


def load_folder(folder: Path) -> ProjectDefinition:
    """Evaluate a project folder; raise ProjectError with file, line and fix at the first broken file.

    Its Python files run under a private package name and are forgotten afterwards, so that projects never mix;
    they reach one another by relative imports (`from .sources import orders`).
    """
    folder = folder.resolve()
    charter = _document(folder / "project.toml", Charter)
    serving = _document(folder / "serving.toml", Serving)
    monitoring = _document(folder / "monitoring.toml", Monitoring)
    with _package(folder) as package:
        sources = _parts(_evaluate(folder, package, "sources"), SourceContract)
        declared = _parts(_evaluate(folder, package, "features"), FeatureSet)
        models = _parts(_evaluate(folder, package, "model"), ModelDefinition)
    feature_sets = [_compiled(folder / "features.py", part) for part in declared]
    _once(folder / "sources.py", [part.name for part in sources])
    _once(folder / "features.py", [part.label for part in feature_sets])
    _once(folder / "model.py", [part.name for part in models])
    try:
        project = ProjectDefinition(
            charter=charter,
            sources={part.name: part for part in sources},
            feature_sets={part.label: FeatureSetDefinition(id=part.id, spec=part.spec) for part in feature_sets},
            models={part.name: part for part in models},
            serving=serving,
            monitoring=monitoring,
        )
    except ValidationError as error:
        raise ProjectError(folder / "model.py", 1, faults(error), "make the files of the folder agree") from error
    _joined(folder, project)
    return project


def _document(file: Path, kind: type[Document]) -> Document:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ProjectError(file, 1, f"cannot be read ({error.strerror})", "every project has this file") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ProjectError(file, line, f"is not UTF-8 ({error.reason})", "save it as UTF-8") from error
    try:
        return kind.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(file, _line_named(str(error)), str(error), "correct the TOML") from error
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        raise ProjectError(file, _line_of(text, place), faults(error), "correct the value") from error


def _line_named(message: str) -> int:
    match = re.search(r"at line (\d+)", message)
    return int(match[1]) if match else 1


def _line_of(text: str, place: tuple[int | str, ...]) -> int:
    """Return the line of the innermost key of `place` that the text holds; 1 when it holds none."""
    for name in reversed(place):
        match = re.search(rf"^\s*\[?{re.escape(str(name))}\s*[\]=]", text, re.MULTILINE)
        if match:
            return text.count("\n", 0, match.end()) + 1
    return 1


@contextmanager
def _package(folder: Path) -> Iterator[str]:
    """Let the folder be a package of a private name for as long as the block runs."""
    name = f"_project_{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    importlib.invalidate_caches()
    try:
        yield name
    finally:
        for module in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
            del sys.modules[module]


def _evaluate(folder: Path, package: str, name: str) -> ModuleType:
    file = folder / f"{name}.py"
    if not file.is_file():
        raise ProjectError(file, 1, "does not exist", "every project has this file")
    try:
        return importlib.import_module(f"{package}.{name}")
    except SyntaxError as error:
        place = Path(error.filename or file)
        raise ProjectError(place, error.lineno or 1, f"SyntaxError: {error.msg}", "correct the syntax") from error
    except _MISTAKES as error:
        place, line = _raised_at(error.__traceback__, folder, file)
        raise ProjectError(place, line, _said(error), "correct this line") from error


def _compiled(file: Path, declared: FeatureSet) -> CompiledSet:
    try:
        return declared.compile()
    except DefinitionError as error:
        line = _line_of(file.read_text(encoding="utf-8"), (error.feature,))
        raise ProjectError(file, line, f"{error.feature}: {error.problem}", error.fix) from error


def _once(file: Path, names: list[str]) -> None:
    """Raise ProjectError when two parts of a file have one name, at the last place that says it."""
    for name in names:
        if names.count(name) > 1:
            fix = "give one of them another name, or a feature set another version"
            raise ProjectError(file, max(_said_at(file, name), default=1), f"{name!r} is declared twice", fix)


def _joined(folder: Path, project: ProjectDefinition) -> None:
    """Raise ProjectError when a label is joined by another column than the rows that it labels are known by."""
    for file, line, what, key, label in _labels(folder, project):
        wanted = project.known_by(label)
        if key != wanted:
            known = f"rows of {label!r} are known by {wanted!r}, the key of their spine"
            fix = f"join it by {wanted!r}, or take a spine that is keyed by {key!r}"
            raise ProjectError(file, line, f"{what} is joined by {key!r}, but {known}", fix)


def _labels(folder: Path, project: ProjectDefinition) -> Iterator[tuple[Path, int, str, str, str]]:
    """Yield of each label file, line, what it is called, what it is joined by, and the feature set that it is for."""
    file = folder / "features.py"
    for label, part in project.feature_sets.items():
        if (found := part.compiled.target) is not None:
            line = _line_of(file.read_text(encoding="utf-8"), (found.name,))
            yield file, line, f"the target {found.name!r}", found.on, label
    file = folder / "model.py"
    for name, model in project.models.items():
        line = min(_said_at(file, name), default=1)
        yield file, line, f"the label of model {name!r}", model.label.key, model.feature_set


def _said_at(file: Path, label: str) -> list[int]:
    """Return the lines of a file that say a name in quotes."""
    text, name = file.read_text(encoding="utf-8"), rf"""["']{re.escape(label.partition(".")[0])}["']"""
    return [text.count("\n", 0, place.start()) + 1 for place in re.finditer(name, text)]


def _raised_at(trace: TracebackType | None, folder: Path, file: Path) -> tuple[Path, int]:
    """Return the innermost place inside the folder."""
    inside = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(trace)
        if Path(frame.f_code.co_filename).is_relative_to(folder)
    ]
    return inside[-1] if inside else (file, 1)


def _said(error: BaseException) -> str:
    return faults(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"


def _parts(module: ModuleType, kind: type[Part]) -> list[Part]:
    """Return what the module holds of a kind, each once, in the order it was named."""
    found = {id(value): value for value in vars(module).values() if isinstance(value, kind)}
    return list(found.values())
