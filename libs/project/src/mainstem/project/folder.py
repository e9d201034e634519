"""From a project folder to its definition. The only code here that reads files, and that runs an author's Python."""

import hashlib
import importlib
import re
import sys
import tomllib
import traceback
from collections.abc import Iterator, Mapping
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
from mainstem.project.places import Place, line_of, place_of, said_at
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
        declared = _declared(folder, package)
        feature_sets = [_compiled(place, part) for part, place in declared]
        models = _parts(_evaluate(folder, package, "model"), ModelDefinition)
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
    _joined(folder, project, {part.label: place for part, (_, place) in zip(feature_sets, declared, strict=True)})
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
        raise ProjectError(file, line_of(text, place), faults(error), "correct the value") from error


def _line_named(message: str) -> int:
    match = re.search(r"at line (\d+)", message)
    return int(match[1]) if match else 1


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


def _declared(folder: Path, package: str) -> list[tuple[FeatureSet, Place]]:
    """Return the feature sets of features.py, some of which it may have from other files of the folder, with places."""
    features = _evaluate(folder, package, "features")
    others = [module for name, module in sys.modules.items() if name.startswith(f"{package}.")]
    files = [(Path(module.__file__), module) for module in (features, *others) if module.__file__]
    return [(part, place_of(part, files)) for part in _parts(features, FeatureSet)]


def _compiled(place: Place, declared: FeatureSet) -> CompiledSet:
    twice = place.written_twice()
    if twice is not None:
        name, line = twice
        raise ProjectError(
            place.file, line, f"{name}: it is written twice, and only the last would count", "name it anew"
        )
    try:
        return declared.compile()
    except DefinitionError as error:
        line = place.line_of(error.feature)
        raise ProjectError(place.file, line, f"{error.feature}: {error.problem}", error.fix) from error


def _once(file: Path, names: list[str]) -> None:
    """Raise ProjectError when two parts of a file have one name, at the last place that says it."""
    for name in names:
        if names.count(name) > 1:
            fix = "give one of them another name, or a feature set another version"
            raise ProjectError(file, max(said_at(file, name), default=1), f"{name!r} is declared twice", fix)


def _joined(folder: Path, project: ProjectDefinition, places: Mapping[str, Place]) -> None:
    """Raise ProjectError when a label cannot be joined with the rows that it is for."""
    fault = next(project.unjoined(), None)
    if fault is None:
        return
    if fault.of_model:
        file = folder / "model.py"
        raise ProjectError(file, min(said_at(file, fault.name), default=1), fault.found, fault.fix)
    place = places[fault.feature_set]
    raise ProjectError(place.file, place.line_of(fault.name), fault.found, fault.fix)


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
