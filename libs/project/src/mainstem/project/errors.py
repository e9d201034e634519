"""What is raised when a project cannot be read."""

from pathlib import PurePath

from mainstem.events.errors import Rejected


class ProjectError(Rejected):
    """A file of a project is broken: says which file, which line, what was found and what to do."""

    def __init__(self, file: PurePath, line: int, found: str, fix: str) -> None:
        super().__init__(f"{file}:{line}: {found}; {fix}")
        self.file = file
        self.line = line
