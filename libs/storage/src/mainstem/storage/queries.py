"""SQL lives in `.sql` files, each query under a line `-- name: <name>`."""

from importlib.resources import files
from typing import LiteralString


def load(package: str, path: str = "queries.sql") -> dict[str, LiteralString]:
    """Return the queries of a file in `package` by name; raise ValueError when a name stands twice."""
    text = files(package).joinpath(path).read_text()
    found: dict[str, LiteralString] = {}
    for part in text.split("-- name: ")[1:]:
        name, _, query = part.partition("\n")
        if name.strip() in found:
            raise ValueError(f"{package}/{path}: query {name.strip()} stands twice")
        found[name.strip()] = query.strip()
    return found
