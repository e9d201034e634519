"""Where in the files of a project something is said."""

import ast
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mainstem.feature_engine import FeatureSet


@dataclass(frozen=True, slots=True)
class Place:
    """Where a feature set is declared: a file and, when a class of it declares the set, this class."""

    file: Path
    declared: ast.ClassDef | None

    def line_of(self, name: str) -> int:
        """Return the line that gives the set a feature or a target of this name, else the first of the set.

        Without a class it is the first line of the file that assigns such a name, else 1.
        """
        if self.declared is None:
            return line_of(self.file.read_text(encoding="utf-8"), (name,))
        names = [node for node in ast.walk(self.declared) if isinstance(node, ast.Name) and node.id == name]
        said = [node.lineno for node in names if isinstance(node.ctx, ast.Store)]
        for node in self.declared.body:
            match node:
                case ast.FunctionDef(called) | ast.AsyncFunctionDef(called) | ast.ClassDef(called) if called == name:
                    said.append(node.lineno)
                case ast.Import(aliases) | ast.ImportFrom(_, aliases) if name in map(_bound, aliases):
                    said.append(node.lineno)
        decorators = [node.lineno for node in self.declared.decorator_list]
        return max(said, default=min(decorators, default=self.declared.lineno))

    def written_twice(self) -> tuple[str, int] | None:
        """Return a name to which the class gives two values, with the line of the second; None when there is none."""
        seen = set[str]()
        for statement in self.declared.body if self.declared else ():
            targets = statement.targets if isinstance(statement, ast.Assign) else ()
            for name in [target.id for target in targets if isinstance(target, ast.Name)]:
                if name in seen:
                    return name, statement.lineno
                seen.add(name)
        return None

    def without_effect(self) -> tuple[str, int] | None:
        """Return what the class says that gives it nothing, `x == a` for `x = a`, with its line; None if it does not.

        A text is a comment.
        """
        for statement in self.declared.body if self.declared else ():
            match statement:
                case ast.Expr(ast.Constant(str())):
                    pass
                case ast.Expr() | ast.AnnAssign(value=None):
                    return ast.unparse(statement), statement.lineno
                case _:
                    pass
        return None


def place_of(declared: FeatureSet, modules: Iterable[tuple[Path, ModuleType]]) -> Place:
    """Return where a set is declared, of the files given; the first of them when none has a class for it.

    Two versions of a set may have features of the same names, so it is not the names that tell.
    """
    files = list(modules)
    for file, module in files:
        names = {name for name, value in vars(module).items() if value is declared}
        nodes = ast.walk(ast.parse(file.read_bytes())) if names else ()
        classes = [node for node in nodes if isinstance(node, ast.ClassDef) and node.name in names]
        if classes:
            return Place(file, max(classes, key=lambda node: node.lineno))
    return Place(files[0][0], None)


def line_of(text: str, place: tuple[int | str, ...]) -> int:
    """Return the line of the innermost key of `place` that the text holds, in the section that `place` names if any.

    It is 1 when the text holds none of them.
    """
    section = re.search(rf"^\s*\[{re.escape(str(place[0]))}\]", text, re.MULTILINE) if place else None
    start = section.start() if section else 0
    following = re.search(r"^\s*\[", text[section.end() :], re.MULTILINE) if section else None
    end = section.end() + following.start() if section and following else len(text)
    for name in reversed(place):
        match = re.search(rf"^\s*\[?{re.escape(str(name))}\s*[\]=]", text[start:end], re.MULTILINE)
        if match:
            return text.count("\n", 0, start + match.end()) + 1
    return 1


def said_at(file: Path, label: str) -> list[int]:
    """Return the lines of a file that say a name, or that of a label, in quotes."""
    text, name = file.read_text(encoding="utf-8"), rf"""["']{re.escape(label.partition(".")[0])}["']"""
    return [text.count("\n", 0, place.start()) + 1 for place in re.finditer(name, text)]


def feature_at(file: Path, line: int) -> str | None:
    """Return the feature that the statement on a line gives a class; None when the line gives none."""
    classes = [node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.ClassDef)]
    for statement in [statement for found in classes for statement in found.body]:
        match statement:
            case ast.Assign([ast.Name(name)]) if statement.lineno <= line <= (statement.end_lineno or 0):
                return name
            case _:
                pass
    return None


def class_line(file: Path, name: str) -> int:
    """Return the line of the last class of a name in a file, 1 if it has none."""
    nodes = ast.walk(ast.parse(file.read_bytes()))
    return max((node.lineno for node in nodes if isinstance(node, ast.ClassDef) and node.name == name), default=1)


def lost(file: Path, functions: Container[str]) -> tuple[str, int] | None:
    """Return what a file says that has no effect, and the line; None when all has.

    That is a call of one of some functions without a name for what it returns, a name that a second class or a second
    such call takes, and a key that a dict has twice.
    """
    found = ast.parse(file.read_bytes())
    names = set[str]()
    for statement in found.body:
        match statement:
            case ast.Expr(ast.Call(ast.Name(call))) if call in functions:
                return f"what {call}(...) returns has no name", statement.lineno
            case ast.ClassDef(name) | ast.Assign([ast.Name(name)], ast.Call(ast.Name())) if name in names:
                return f"{name} is written twice, and only the last would count", statement.lineno
            case ast.ClassDef(name):
                names.add(name)
            case ast.Assign([ast.Name(name)], ast.Call(ast.Name(call))) if call in functions:
                names.add(name)
            case _:
                pass
    return next(_keys_twice(found), None)


def _keys_twice(found: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(found):
        seen = set[object]()
        for key in node.keys if isinstance(node, ast.Dict) else ():
            if isinstance(key, ast.Constant):
                if key.value in seen:
                    yield f"the key {key.value!r} is written twice, and only the last would count", key.lineno
                seen.add(key.value)


def _bound(alias: ast.alias) -> str:
    """Return the name that an import binds."""
    return alias.asname or alias.name.partition(".")[0]
