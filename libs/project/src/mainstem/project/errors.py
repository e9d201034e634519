"""What is raised when a project cannot be read."""

from pathlib import PurePath

from mainstem.events.errors import Rejected


class ProjectError(Rejected):
    """A file of a project is broken: says which file, which line, what was found and what to do."""

    def __init__(self, file: PurePath, line: int, found: str, fix: str) -> None:
        super().__init__(f"{file}:{line}: {found}; {fix}")
        self.file = file
        self.line = line


class Disagreement(ValueError):
    """Parts of a project that do not fit together: a model, a feature set or a setting, and what it would have to fit.

    A setting is its place in serving.toml, as `overflow.late`.
    `said` is what its author is likely to have written in quotes where it is to be mended.
    """

    def __init__(
        self, found: str, fix: str, *, model: str = "", feature_set: str = "", setting: str = "", said: str = ""
    ) -> None:
        super().__init__(f"{found}; {fix}")
        self.found = found
        self.fix = fix
        self.model = model
        self.feature_set = feature_set
        self.setting = setting
        self.said = said
