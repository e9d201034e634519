"""The board: what answers at this moment, and the models that are loaded."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from mainstem.inference.errors import NotReady, Unknown
from mainstem.serving.arms import Route
from mainstem.serving.domain import Activation, Charge, Followed, Indexed, charges
from mainstem.serving.forms import Form

if TYPE_CHECKING:  # what answered last is read before the runtime is there
    from mainstem.serving.engine import Model


class NotLoaded(NotReady):
    """A version that is in effect is not loaded; `activation` is the one."""

    def __init__(self, activation: Activation, fault: str | None) -> None:
        why = f": {fault}" if fault else " yet; try again"
        super().__init__(f"model {activation.model} version {activation.version} is not loaded{why}")
        self.activation = activation


class Board:
    """What answers at this moment: the activations as they are stored, and the models that are loaded."""

    def __init__(self, routed: Callable[["Board"], None] = lambda _: None) -> None:
        """Begin with nothing; `routed` is called whenever other activations are in effect."""
        self._routed = routed
        #: The feature sets whose values are looked up, by their identity.
        self.lookups: Mapping[str, Followed] = {}
        #: Models that read a feature topic, by the topic.
        self.readers: Mapping[str, Sequence[str]] = {}
        self._activations: Mapping[str, Sequence[Activation]] = {}
        #: What answers direct calls, by model; a switch is another table in its place.
        self._routes: Mapping[str, Route] = {}
        self._models: dict[str, Model] = {}
        self._forms: dict[tuple[str, int], Form] = {}
        #: Models whose records may be dropped when there is no room for them; of every other no answer is given then.
        self.droppable: Collection[str] = frozenset()
        #: Why a model could not be loaded, by its digest.
        self.faults: dict[str, str] = {}

    def swap(self, activations: Iterable[Activation]) -> None:
        """Route by these activations from now on; for each model they come in their order."""
        grouped = groupby(sorted(activations, key=lambda a: a.model), key=lambda a: a.model)
        self._activations = {model: tuple(run) for model, run in grouped}
        self._routes = {model: Route(run[-1]) for model, run in self._activations.items()}
        self._forms = {}
        self._routed(self)

    def follow(self, lookups: Mapping[str, Followed]) -> None:
        """Look up the values of these feature sets from now on."""
        if lookups != self.lookups:
            self.lookups = lookups
            self._routed(self)

    def let_drop(self, models: Collection[str]) -> None:
        """Let the records of these models, and of no other, be dropped when there is no room for them."""
        if frozenset(models) != self.droppable:
            self.droppable = frozenset(models)
            self._routed(self)

    def load(self, onnx: str, model: "Model") -> None:
        """Make a loaded model known by its digest."""
        self._models[onnx] = model
        self.faults.pop(onnx, None)

    def has(self, onnx: str) -> bool:
        """Tell whether a model is loaded."""
        return onnx in self._models

    def keep(self, wanted: Collection[str]) -> None:
        """Forget every other model."""
        self._models = {onnx: model for onnx, model in self._models.items() if onnx in wanted}
        self.faults = {onnx: fault for onnx, fault in self.faults.items() if onnx in wanted}

    def of(self, model: str) -> Sequence[Activation]:
        """Return the activations of a model in their order."""
        return self._activations.get(model, ())

    def charges(self, model: str) -> list[Charge]:
        """Return which topics were and are in charge of a model, in order."""
        return charges(self.of(model), {topic for topic, models in self.readers.items() if model in models})

    def model(self, activation: Activation) -> "Model":
        """Return the loaded model of an activation; raise NotLoaded."""
        try:
            return self._models[activation.onnx]
        except KeyError:
            raise NotLoaded(activation, self.faults.get(activation.onnx)) from None

    def form(self, activation: Activation) -> Form:
        """Return how its predictions are written."""
        key = activation.deployment, activation.version
        known = self._forms.get(key)
        if known is None:
            known = self._forms[key] = Form(activation)
        return known

    def all(self) -> list[Activation]:
        """Return all activations, for each model in their order."""
        return [activation for _, run in sorted(self._activations.items()) for activation in run]

    def last(self) -> list[Activation]:
        """Return for each model the activation that answers direct calls."""
        return [run[-1] for _, run in sorted(self._activations.items())]

    def route(self, model: str) -> Route:
        """Return what answers the direct calls of a model. Raises Unknown."""
        try:
            return self._routes[model]
        except KeyError:
            known = sorted(self._routes)
            raise Unknown(f"no version of model {model!r} is deployed here; known: {known}") from None

    def live(self, model: str) -> Activation:
        """Return the activation that answers direct calls: the last one. Raises Unknown."""
        return self.route(model).first

    def answering(self, model: str) -> set[int]:
        """Return the versions that answer direct calls of a model unasked for; none of an unknown one."""
        route = self._routes.get(model)
        return set() if route is None else {each.version for each in route.versions if each not in route.shadows}

    def before(self) -> list[Activation]:
        """Return for each model the versions that answered before; there may be none."""
        return [each for _, run in sorted(self._activations.items()) for last in run[-2:-1] for each in last.versions()]

    def about(self, model: str, version: str | None) -> Activation:
        """Return what answers direct calls for a model. Raises Unknown or NotReady."""
        found = self.route(model).named(version)
        self.model(found)
        return found

    def chosen(self, model: str | None, version: str | None) -> list[Activation]:
        """Return what answers for one model, or for each. Raises Unknown or NotReady."""
        if model is None or version is None:
            return self._answering() if model is None else list(self.route(model).versions)
        return [self.about(model, version)]

    def index(self, elsewhere: Mapping[str, str]) -> list[Indexed]:
        """Return every version that answers direct calls, or is to; not as ready what `elsewhere` cannot be loaded.

        That is said by digest, with the reason.
        """
        return [self._indexed(each, elsewhere.get(each.onnx)) for each in self._answering()]

    def _answering(self) -> list[Activation]:
        """Return every version that may be asked for; what answered before is warm and may not."""
        return [each for _, route in sorted(self._routes.items()) for each in route.versions]

    def _indexed(self, live: Activation, elsewhere: str | None) -> Indexed:
        name, fault = (live.model, str(live.version)), elsewhere or self.faults.get(live.onnx)
        if live.onnx in self._models and elsewhere is None:
            return Indexed(*name, "READY")
        return Indexed(*name, "UNAVAILABLE", fault) if fault else Indexed(*name, "LOADING")

    def missing(self) -> list[Activation]:
        """Return the versions that answer direct calls but are not loaded."""
        return [each for each in self._answering() if each.onnx not in self._models]

    def fault(self) -> str | None:
        """Tell what keeps a version in effect from answering, or None."""
        faults = [
            f"model {a.model} version {a.version}: {self.faults.get(a.onnx, 'not loaded yet')}" for a in self.missing()
        ]
        return "; ".join(faults) or None
