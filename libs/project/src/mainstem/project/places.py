"""Where in the files of a project something is said."""

import ast
import re
from collections.abc import Iterable
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
    """Return the line of the innermost key of `place` that the text holds; 1 when it holds none."""
    for name in reversed(place):
        match = re.search(rf"^\s*\[?{re.escape(str(name))}\s*[\]=]", text, re.MULTILINE)
        if match:
            return text.count("\n", 0, match.end()) + 1
    return 1


def said_at(file: Path, label: str) -> list[int]:
    """Return the lines of a file that say a name, or that of a label, in quotes."""
    text, name = file.read_text(encoding="utf-8"), rf"""["']{re.escape(label.partition(".")[0])}["']"""
    return [text.count("\n", 0, place.start()) + 1 for place in re.finditer(name, text)]
