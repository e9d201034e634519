"""Datasets: built from the log, put into the artifact store, and held against their manifests."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from mainstem.events.errors import Rejected
from mainstem.events.instants import render
from mainstem.project.definition import ProjectDefinition
from mainstem.project.model import ModelDefinition
from mainstem.storage import ArtifactCorrupt, ArtifactMissing, Artifacts
from mainstem.training.domain import Manifest, Ranges, Span, code_digest
from mainstem.training.history.log import Dataset
from mainstem.training.history.table import from_parquet, logical_hash, table_of, to_parquet
from mainstem.training.ports import Told

#: Reads the log up to the end of the ranges and returns what it says of them; raises NotReached.
ReadDataset = Callable[[ProjectDefinition, ModelDefinition, Ranges, Told], Awaitable[Dataset]]

#: The modules on which the content of a dataset hangs.
_BUILT_BY: Final = {
    "mainstem.training": ("domain.py",),
    "mainstem.training.history": ("datasets.py", "log.py", "table.py", "wire.py"),
    "mainstem.events": ("fence.py", "instants.py"),
    "mainstem.project": ("columns.py", "contract.py", "model.py", "records.py"),
}


@dataclass(frozen=True, slots=True)
class Built:
    """A dataset in the artifact store: the addresses of manifest and table, and what the manifest says."""

    dataset: str
    table: str
    manifest: Manifest


class Builder:
    """Builds the dataset of a model as of a cut. The same definition, cut and log give the same address."""

    def __init__(self, artifacts: Artifacts, read: ReadDataset) -> None:
        self._artifacts = artifacts
        self._read = read
        self._code = code_digest(_sources())

    async def build(self, definition: ProjectDefinition, name: str, cut_us: int, told: Told) -> Built:
        """Read the log up to the cut and store table and manifest.

        Raises NotReached while the log does not go that far, and Rejected when the project declares no such model.
        """
        model = definition.models.get(name)
        if model is None:
            raise Rejected(f"project {definition.charter.name!r} declares no model {name!r}; ask for one that it does")
        ranges = Ranges.at(cut_us, model.training_window, model.evaluation_window)
        dataset = await self._read(definition, model, ranges, told)
        return await asyncio.to_thread(self._freeze, definition, model, ranges, dataset)

    def _freeze(self, definition: ProjectDefinition, model: ModelDefinition, ranges: Ranges, dataset: Dataset) -> Built:
        compiled = definition.feature_sets[model.feature_set].compiled
        table = table_of(dataset, compiled.names, ranges.evaluation.start_us)
        manifest = Manifest(
            project=definition.charter.name,
            definition=definition.id,
            model=model.name,
            feature_set={"id": compiled.id, "label": compiled.label},
            label=model.label.model_dump(mode="json"),
            cut=render(ranges.evaluation.end_us),
            fit=_rendered(ranges.fit),
            evaluation=_rendered(ranges.evaluation),
            rows=len(dataset.y),
            held_out=int((dataset.recorded_us >= ranges.evaluation.start_us).sum()),
            unlabelled=dataset.unlabelled,
            positions=dataset.positions,
            content=logical_hash(table),
            code=self._code,
        )
        stored = self._artifacts.put(to_parquet(table))
        return Built(self._artifacts.put(manifest.canonical()), stored, manifest)


def read_manifest(artifacts: Artifacts, dataset: str) -> dict[str, Any]:
    """Return the manifest at an address; raise ArtifactMissing, or ArtifactCorrupt when it was changed."""
    found: dict[str, Any] = json.loads(artifacts.get(dataset))
    return found


def check(artifacts: Artifacts, dataset: str, table: str) -> tuple[str, str]:
    """Tell whether a dataset is there and what its manifest says: a word, and a sentence with what was found.

    The word is `holds`; or `missing` or `changed` when this happened to the manifest or to the table; or `differs`
    when the rows of the table have another logical hash than the manifest says.
    """
    try:
        manifest = read_manifest(artifacts, dataset)
        found = logical_hash(from_parquet(artifacts.get(table)))
    except ArtifactMissing as fault:
        return "missing", str(fault)
    except ArtifactCorrupt as fault:
        return "changed", str(fault)
    except ValueError as fault:
        return "differs", f"{table} holds no dataset: {fault}"
    if found != manifest["content"]:
        return "differs", f"the rows in {table} hash to {found}, the manifest says {manifest['content']}"
    return "holds", f"the rows in {table} hash to {found}, as the manifest says"


def _rendered(span: Span) -> tuple[str, str]:
    return render(span.start_us), render(span.end_us)


def _sources() -> dict[str, bytes]:
    return {
        f"{package}.{name}": files(package).joinpath(name).read_bytes()
        for package, names in _BUILT_BY.items()
        for name in names
    }
