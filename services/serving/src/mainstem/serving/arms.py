"""Which version answers a direct call: the routes of a model, and how entities are shared out. Pure; see ADR 21."""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING

from mainstem.inference.errors import Unknown
from mainstem.serving.domain import WHOLE, Activation

if TYPE_CHECKING:
    from mainstem.events.registry import DeploymentSet


def place(salt: str, key: str) -> int:
    """Return where an entity stands in a deployment, from 0 up to `WHOLE`: anywhere, and the same on every machine.

    Under another salt it stands elsewhere, whatever its place was. BLAKE2b: 1 µs, in the standard library, and keys
    that differ in one digit are as far from each other as any, which checksums do not promise.
    """
    drawn = blake2b(f"{salt}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "big") * WHOLE >> 64


class Route:
    """What answers the direct calls of a model. It never changes: another one takes its place."""

    def __init__(self, activation: Activation) -> None:
        """Share the entities out: each arm has a stretch, in the order of the deployment, what is left has `first`.

        So an arm that grows keeps those that it had, as long as it stays the first.
        """
        self.first, *others = activation.versions()
        beside = list(zip(activation.arms, others, strict=True))
        #: Every version that may be asked for.
        self.versions: Sequence[Activation] = (self.first, *others)
        #: What scores behind the answers, and answers only who names it.
        self.shadows: Sequence[Activation] = tuple(version for arm, version in beside if arm.shadow)
        sharing = [(arm.weight, version) for arm, version in beside if arm.weight]
        self._ends = list(accumulate(weight for weight, _ in sharing))
        self._sharing = [*(version for _, version in sharing), self.first]
        self._salt = activation.salt
        self._named = {str(version.version): version for version in self.versions}

    @property
    def shared(self) -> bool:
        """Tell whether it depends on the entity who answers."""
        return bool(self._ends)

    def of(self, key: str) -> Activation:
        """Return what answers for an entity, or for the id of a request that names none."""
        return self._sharing[bisect_right(self._ends, place(self._salt, key))]

    def named(self, version: str | None) -> Activation:
        """Return a version whatever its share; without a number the one that was activated. Raises Unknown."""
        if version is None:
            return self.first
        try:
            return self._named[version]
        except KeyError:
            there = ", ".join(self._named)
            raise Unknown(f"model {self.first.model!r} answers in version {there}, not {version!r}") from None


def misfit(wanted: "DeploymentSet") -> str | None:
    """Tell why the arms of a deployment cannot stand beside each other; None when they can."""
    numbers = [wanted.version, *(arm.version for arm in wanted.arms)]
    if len(set(numbers)) < len(numbers):
        return f"it names a version twice: {numbers}; a version has one arm"
    wrong = [arm.version for arm in wanted.arms if arm.weight < 0 or (arm.shadow and arm.weight)]
    if wrong:
        return f"versions {wrong} have a weight below 0, or answer as shadows; a shadow has weight 0"
    total = sum(arm.weight for arm in wanted.arms)
    return f"its weights make {total} of {WHOLE}; lower them" if total > WHOLE else None
