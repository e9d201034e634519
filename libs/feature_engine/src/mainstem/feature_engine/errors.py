"""What can go wrong before a single event is folded.

ValueError
├── DefinitionError   a feature definition that cannot mean what it says
└── SnapshotError     a snapshot that is damaged or belongs to another definition
"""


class DefinitionError(ValueError):
    """A definition is refused: names the feature (or stream), the problem and the fix."""

    def __init__(self, feature: str, problem: str, fix: str) -> None:
        super().__init__(f"{feature}: {problem}; {fix}")
        self.feature = feature
        self.problem = problem
        self.fix = fix


class SnapshotError(ValueError):
    """A snapshot cannot be restored into this engine; the engine is left as it was."""
