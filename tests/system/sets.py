"""The harbour with other sets of features than it has."""

import shutil
from pathlib import Path

from tests.system.world import HARBOUR

_SECOND = """

@feature_set("strain", version=2, spine=lift, lateness="1h")
class StrainOfTwoDays:
    \"\"\"One row for each lift, with what the crane did on two days.\"\"\"

    load = lift.load
    wind = lift.wind
    crane_mean_2d = lift.by("crane").mean("load", "2d")
    lifts_2d = lift.by("crane").count("2d")
"""


def harbour(folder: Path, *, second: bool = False, window: str = "1d") -> Path:
    """Return the project with another window in the first set, or with a second set that the model reads."""
    project = Path(shutil.copytree(HARBOUR, folder / "harbour"))
    features, model = project / "features.py", project / "model.py"
    features.write_text(features.read_text().replace('"load", "1d"', f'"load", "{window}"'))
    if second:
        features.write_text(features.read_text() + _SECOND)
        model.write_text(model.read_text().replace('"strain"', '"strain.v2"'))
    return project
