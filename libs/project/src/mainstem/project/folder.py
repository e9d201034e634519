"""From a project folder to its definition. The only code here that reads files, and that runs an author's Python."""

import hashlib
import importlib
import re
import sys
import tomllib
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from mainstem.feature_engine import CompiledSet, DefinitionError, FeatureSet, feature_set
from mainstem.feature_engine.expressions import AGGREGATES
from mainstem.feature_engine.spec import features_of
from mainstem.project.advice import advice
from mainstem.project.charter import Charter
from mainstem.project.contract import SourceContract, source
from mainstem.project.definition import FeatureSetDefinition, ProjectDefinition
from mainstem.project.durations import AUTHORED
from mainstem.project.errors import Disagreement, ProjectError
from mainstem.project.model import ModelDefinition, model
from mainstem.project.monitoring import Monitoring
from mainstem.project.places import (
    Place,
    class_line,
    feature_at,
    line_of,
    lost,
    place_of,
    said_at,
)
from mainstem.project.serving import Serving

Document = TypeVar("Document", bound=BaseModel)
Part = TypeVar("Part")

#: What the language is imported from; the files of a folder; functions whose result is lost without a name.
_LANGUAGE: Final = ("mainstem.feature_engine", "mainstem.project")
_FILES: Final = ("sources", "features", "model")
_MAKERS: Final = (source, model, feature_set)
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
    places = {part.label: place for part, (_, place) in zip(feature_sets, declared, strict=True)}
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
        raise _disagreement(error, folder, places) from error
    _joined(folder, project, places)
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
        return kind.model_validate(tomllib.loads(text), context=AUTHORED)
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(file, _line_named(str(error)), str(error), "correct the TOML") from error
    except ValidationError as error:
        told = advice(error)
        raise ProjectError(file, line_of(text, told.place), told.found, told.fix) from error


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
        feature = feature_at(place, line)
        found, fix = _told(error, package)
        raise ProjectError(place, line, found if feature is None else f"{feature}: {found}", fix) from error


def _declared(folder: Path, package: str) -> list[tuple[FeatureSet, Place]]:
    """Return the feature sets of features.py, some of which it may have from other files of the folder, with places."""
    features = _evaluate(folder, package, "features")
    others = [module for name, module in sys.modules.items() if name.startswith(f"{package}.")]
    files = [(Path(module.__file__), module) for module in (features, *others) if module.__file__]
    for file, module in files:
        _nothing_lost(file, module)
    return [(part, place_of(part, files)) for part in _parts(features, FeatureSet)]


def _nothing_lost(file: Path, module: ModuleType) -> None:
    """Raise ProjectError for a class of features that is no feature set."""
    sets = [value for value in vars(module).values() if isinstance(value, FeatureSet)]
    for name, found in vars(module).items():
        features = features_of(found) if isinstance(found, type) and found.__module__ == module.__name__ else []
        if features and not any(declared.holds(found) for declared in sets):
            problem = f"class {name} has features ({', '.join(features[:3])}), but it is no feature set"
            fix = 'write @feature_set("name", spine=..., lateness=...) above it'
            raise ProjectError(file, class_line(file, found.__name__), problem, fix)


def _compiled(place: Place, declared: FeatureSet) -> CompiledSet:
    if (twice := place.written_twice()) is not None:
        name, line = twice
        found = f"{name}: it is written twice, and only the last would count"
        raise ProjectError(place.file, line, found, "name it anew")
    if (idle := place.without_effect()) is not None:
        said, line = idle
        raise ProjectError(place.file, line, f"{said!r} gives the set nothing", "write a feature as name = value")
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


def _disagreement(error: ValidationError, folder: Path, places: Mapping[str, Place]) -> ProjectError:
    """Return the error for parts of a folder that do not fit together, at the place that is to be mended."""
    told, file = advice(error), folder / "model.py"
    cause = error.errors()[0].get("ctx", {}).get("error")
    if not isinstance(cause, Disagreement):
        return ProjectError(file, 1, told.found, told.fix)
    if cause.feature_set:
        place = places[cause.feature_set]
        return ProjectError(place.file, place.line_of(cause.feature_set), told.found, told.fix)
    if cause.setting:
        file = folder / "serving.toml"
        line = line_of(file.read_text(encoding="utf-8"), tuple(cause.setting.split(".")))
        return ProjectError(file, line, told.found, told.fix)
    first = min(said_at(file, cause.model), default=1)
    line = next((line for line in said_at(file, cause.said) if line >= first), first)
    return ProjectError(file, line, told.found, told.fix)


def _raised_at(trace: TracebackType | None, folder: Path, file: Path) -> tuple[Path, int]:
    """Return the innermost place inside the folder."""
    inside = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(trace)
        if Path(frame.f_code.co_filename).is_relative_to(folder)
    ]
    return inside[-1] if inside else (file, 1)


def _told(error: BaseException, package: str) -> tuple[str, str]:
    """Return what an author's code did that it may not, and what to do."""
    said = f"{type(error).__name__}: {error}".replace(f"{package}.", "")
    match error:
        case ValidationError():
            told = advice(error)
            return told.found, told.fix
        case DefinitionError():
            return f"{error.feature}: {error.problem}", error.fix
        case ModuleNotFoundError() if f"{package}.{error.name}" in sys.modules or error.name in _FILES:
            return said, f"files of the folder are imported by a dot, from .{error.name} import ..."
        case ImportError():
            return said, _imported(*re.findall(r"cannot import name '(\w+)'", str(error))) or "correct this line"
        case NameError():
            instead = "define it above this line, or write it in quotes if it is the name of a column"
            return said, _imported(str(error.name)) or instead
        case _:
            return said, "correct this line"


def _imported(*names: str) -> str | None:
    """Return how a name is to be written that the language has, or that is like one it has; None for another."""
    known = {name for module in _LANGUAGE for name in sys.modules[module].__all__}
    for close in [close for name in names for close in get_close_matches(name, known, 1, cutoff=0.8)]:
        modules = [module for module in _LANGUAGE if close in sys.modules[module].__all__]
        return f"write {' or '.join(f'from {module} import {close}' for module in modules)}"
    methods = [name for name in names if name in {*AGGREGATES, "clip", "is_null", "local"}]
    return f"it is a method, x.{methods[0]}(...)" if methods else None


def _parts(module: ModuleType, kind: type[Part]) -> list[Part]:
    """Return what the module holds of a kind, each once, in the order it was named.

    Raises ProjectError for parts without a name of their own, which would be lost.
    """
    found = {id(value): value for value in vars(module).values() if isinstance(value, kind)}
    file = Path(str(module.__file__))
    makers = {name for name, value in vars(module).items() if any(value is maker for maker in _MAKERS)}
    if (fault := lost(file, makers)) is not None:
        raise ProjectError(file, fault[1], fault[0], "give each a name of its own")
    for name, value in vars(module).items():
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        if not name.startswith("__") and any(isinstance(part, kind) and id(part) not in found for part in parts):
            line = line_of(file.read_text(encoding="utf-8"), (name,))
            problem = f"what is declared in the {type(value).__name__} {name} is lost"
            raise ProjectError(file, line, problem, "give each part a name of its own in the file")
    return list(found.values())
