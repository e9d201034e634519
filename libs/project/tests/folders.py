"""The folder of a small project, and how a test writes it otherwise."""

from pathlib import Path

from mainstem.project import ProjectDefinition, load_folder

FILES = {
    "project.toml": """\
name = "shop"
purpose = "Tell which baskets are abandoned."
[owners]
technical = "shop-data"
business = "shop-sales"
[risk]
impact = 2
autonomy = 2
reversibility = 2
regulatory_exposure = 1
[value]
currency = "EUR"
true_positive = 1
false_positive = -1
true_negative = 0
false_negative = -2
""",
    "serving.toml": "latency_ms = 20\n",
    "monitoring.toml": """\
window = "1d"
false_alarms_per_100_windows = 1
cooldown = "7d"
min_labelled = 100
[responses]
performance_loss = "retrain"
""",
    "sources.py": """\
from mainstem.project import category, fixed, source

basket = source("basket", key="basket", columns={
    "basket": category("the basket"),
    "worth": fixed("what is in it", unit="EUR", lo=0, hi=1000, scale=100),
})
""",
    "features.py": """\
from mainstem.feature_engine import feature_set

from .sources import basket

baskets = basket.stream()

@feature_set("basket_now", spine=baskets, lateness="1h")
class BasketNow:
    worth = baskets.worth
    mean_1h = baskets.by("basket").mean("worth", "1h")
""",
    "model.py": """\
from mainstem.project import Estimator, Gates, Label, model

abandoned = model(
    "abandoned", feature_set="basket_now", training_window="30d", evaluation_window="3d", seed=1,
    label=Label(source="basket", key="basket", column="worth", above=10, wait="1d"),
    estimator=Estimator(),
    gates=Gates(min_auc=0.7, max_auc_loss=0.01, confidence=0.9, max_calibration_error=0.1),
)
""",
}


def write(folder: Path, **changes: tuple[str, str]) -> Path:
    for name, content in FILES.items():
        old, new = changes.get(name.replace(".", "_"), ("", ""))
        (folder / name).write_text(content.replace(old, new) if old else content)
    return folder


def load(folder: Path, **changes: tuple[str, str]) -> ProjectDefinition:
    return load_folder(write(folder, **changes))
