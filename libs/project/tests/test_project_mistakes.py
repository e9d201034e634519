"""What an author of a folder may write by mistake, and what is said about it: file, line, the fault and what to do."""

from pathlib import Path

import pytest
from libs.project.tests.folders import FILES, load, write

from mainstem.feature_engine import DefinitionError
from mainstem.project import Estimator, Gates, Label, ProjectError, boolean, category, fixed, load_folder, source, text

WORTH = "    worth = baskets.worth\n"
SET = '@feature_set("basket_now", spine=baskets, lateness="1h")\n'
LABEL = 'Label(source="basket", key="basket", column="worth", above=10, wait="1d")'


def said(folder: Path, **changes: tuple[str, str]) -> str:
    """Return what is said of a folder, without the folder."""
    for name, (old, _) in changes.items():
        assert old in FILES[name.replace("_", ".")]
    with pytest.raises(ProjectError) as caught:
        load(folder, **changes)
    return str(caught.value).removeprefix(f"{folder}/")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'worth = baskets.by("basket").last("worth")',
            'features.py:9: worth: last(): it lacks ttl=; write last(value, ttl=...), like last("amount", ttl="1d")',
        ),
        ("worth = baskets.worth.clip(5)", "features.py:9: worth: clip(): it lacks hi; write clip(lo, hi), like clip("),
        ("worth = baskets.worth == None", "features.py:9: worth: None is no value; ask for it by x.is_null()"),
        ("worth: baskets.worth", "features.py:9: 'worth: baskets.worth' gives the set nothing; write a feature as nam"),
        ("baskets.worth", "features.py:9: 'baskets.worth' gives the set nothing; write a feature as name = value"),
        ("worth = baskets.worth,", "features.py:9: worth: a tuple (a comma at the end makes one) is not a feature"),
        (
            'worth = baskets.by("basket").mean(worth, "1h")',
            "features.py:9: worth: NameError: name 'worth' is not defined; define it above this line, or write it ",
        ),
        (
            "worth = is_null(baskets.worth)",
            "features.py:9: worth: NameError: name 'is_null' is not defined; it is a met",
        ),
        (
            "worth = where(baskets.worth > 5, 1, 0)",
            "features.py:9: worth: NameError: name 'where' is not defined; write from mainstem.feature_engine impo",
        ),
        (
            "worth = basket['worth']",
            "features.py:9: worth: TypeError: source 'basket' has no 'worth': its stream has, wri",
        ),
        (
            "worth = basket.stream().by('basket').count('1h')",
            "features.py:9: worth: two streams are named basket; rena",
        ),
        ("class worth: pass", "features.py:9: worth: the class worth is not a feature; assign a column"),
        ("import os as worth", "features.py:9: worth: the module os (import it above the class) is not a feature"),
        ("from os.path import join as worth", "features.py:9: worth: the function join is not a feature"),
        ("async def worth(self): return 5", "features.py:9: worth: the function worth is not a feature"),
        ("def worth(self): return 5", "features.py:9: worth: the function worth is not a feature; assign a column"),
    ],
)
def test_a_feature_that_is_written_wrong_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    assert said(tmp_path, features_py=(WORTH, f"    {line}\n")).startswith(message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            SET,
            "",
            "features.py:7: class BasketNow has features (worth, mean_1h), but it is no feature set; write @featu",
        ),
        (SET, SET[1:], "features.py:8: class BasketNow has features (worth, mean_1h), but it is no feature set"),
        (
            SET,
            "@feature_set\n",
            "features.py:7: @feature_set(): it lacks spine= and lateness=; write @feature_set(name,",
        ),
        (
            ', lateness="1h"',
            "",
            "features.py:7: @feature_set(): it lacks lateness=; write @feature_set(name, spine=..., lateness=...[,",
        ),
        ("spine=baskets", "spine=basket.stream", "features.py:7: basket_now: the method stream is used without its ()"),
        (
            "basket.stream()",
            "basket.stream",
            "features.py:9: worth: stream(): the method stream is used without its ()",
        ),
        (
            "basket.stream()",
            "basket",
            "features.py:9: worth: AttributeError: source 'basket' has no worth: its stream has, write basket.stream()",
        ),
        (
            "from .sources",
            "from sources",
            "features.py:3: ModuleNotFoundError: No module named 'sources'; files of the",
        ),
        (
            "import feature_set",
            "import featureset",
            "features.py:1: ImportError: cannot import name 'featureset' from 'mainstem.feature_engine'",
        ),
        (
            "class BasketNow:",
            "def BasketNow():",
            "features.py:7: 'basket_now': the function BasketNow is no class with",
        ),
    ],
)
def test_a_set_that_is_declared_wrong_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert said(tmp_path, features_py=(old, new)).startswith(message)


def test_a_class_that_is_made_a_set_by_a_call_is_not_lost(tmp_path: Path) -> None:
    file = write(tmp_path, features_py=(SET, "")) / "features.py"
    file.write_text(f'{file.read_text()}\nMade = feature_set("basket_now", spine=baskets, lateness="1h")(BasketNow)\n')
    assert list(load_folder(tmp_path).feature_sets) == ["basket_now"]


def test_a_second_class_of_a_name_does_not_hide_the_first(tmp_path: Path) -> None:
    file = write(tmp_path) / "features.py"
    second = "version=2)\nclass BasketNow:\n    worth = baskets.worth\n"
    file.write_text(f"{file.read_text()}\n{SET.replace(')', ', ' + second, 1)}")
    with pytest.raises(
        ProjectError, match=r"features\.py:13: BasketNow is written twice, and only the last would count"
    ):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("model", "abandoned = model(", "model(", "model.py:3: what model(...) returns has no name; give each a name"),
        (
            "model",
            "abandoned = model(",
            "models = dict(a=model)\nmodels['b'] = model(",
            "model.py:3: what is declared in",
        ),
        ("sources", "basket = source(", "source(", "sources.py:3: what source(...) returns has no name"),
        (
            "sources",
            "basket = source(",
            'basket = source("till", key="till", columns={"till": category("the till")})\nbasket = source(',
            "sources.py:4: basket is written twice, and only the last would count; give each a name of its own",
        ),
        (
            "sources",
            '    "worth"',
            '    "basket": category("again"),\n    "worth"',
            "sources.py:5: the key 'basket' is written twice, and only the last would count; give each a name",
        ),
    ],
)
def test_what_would_be_lost_is_named(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    assert said(tmp_path, **{f"{name}_py": (old, new)}).startswith(message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "key=",
            "kye=",
            "sources.py:3: source(): it has no kye= (key= is meant); write source(name, key=..., columns=",
        ),
        (
            "scale=100",
            "scal=100",
            "sources.py:5: fixed(): it has no scal= (scale= is meant); write fixed(description, ",
        ),
        ("scale=100", "scale=0", "sources.py:5: scale is 0: Input should be greater than 0"),
        ("scale=100", "scale=2**40", "sources.py:5: fixed('EUR'): scale 1099511627776 is not in 1..2**30"),
        ("lo=0, hi=1000", "lo=9, hi=1", "sources.py:5: lo 9.0 lies above hi 1.0"),
        (
            'category("the basket")',
            "category",
            "sources.py:3: source 'basket': its column 'basket' is the function category; call category(",
        ),
        ('category("the basket")', "category()", "sources.py:4: category(): it lacks description; write category(desc"),
        ('category("the basket")', 'category("b", values="ab")', "sources.py:4: category(): its values are one text"),
        ('source("basket"', 'source("Basket"', "sources.py:3: name is 'Basket'; take small letters, digits and _"),
        ("key=", "max_age=5, key=", "sources.py:3: max_age: 5 is not a duration: write a text of a number and a unit"),
        ("key=", 'batch={"max_nul": {}}, key=', "sources.py:3: batch has no max_nul; write max_null"),
        ("from mainstem.project", "from mainstem.feature_engine", "sources.py:1: ImportError: cannot import name 'sou"),
    ],
)
def test_a_source_that_is_declared_wrong_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert said(tmp_path, sources_py=(old, new)).startswith(message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'feature_set="basket_now"',
            'feature_set="basket"',
            "model.py:4: model 'abandoned' reads feature set 'basket', which features.py does not declare; declare",
        ),
        ('feature_set="basket_now"', "feature_set=NOW", "model.py:4: NameError: name 'NOW' is not defined; define it"),
        (
            'column="worth"',
            'column="wort"',
            "model.py:5: the label of 'abandoned' needs a number, 'wort' of 'basket' is",
        ),
        (
            'key="basket"',
            'key="bskt"',
            "model.py:5: the label of 'abandoned' is joined by 'bskt', no column of 'basket'",
        ),
        (LABEL, 'Label.of("basket_now")', "model.py:5: Label.of(): 'basket_now' is no feature set; give the class"),
        (
            LABEL,
            'Label("basket")',
            "model.py:5: Label(): it takes no value without a name, not 1 (source=, key=, colum",
        ),
        (
            LABEL,
            LABEL.replace("'1d'", "5").replace('"1d"', "5"),
            "model.py:5: Label(): wait is 5, which is not a durat",
        ),
        ("seed=1", "sed=1", "model.py:3: model(): it has no sed= (seed= is meant); write model(name, feature_set=..."),
        ("seed=1", "seed='x'", "model.py:3: seed is 'x': Input should be a valid integer"),
        (
            '"30d"',
            "30",
            "model.py:3: training_window: 30 is not a duration: write a text of a number and a unit, like '6h'",
        ),
        ("min_auc", "min_acc", "model.py:7: Gates() has no min_acc; write min_auc"),
        ("min_auc=0.7, ", "", "model.py:7: Gates() lacks min_auc; add min_auc"),
        ("min_auc=0.7", "min_auc=70", "model.py:7: min_auc is 70: Input should be less than or equal to 1"),
        ("Estimator()", 'Estimator(kind="xgboost")', "model.py:6: kind is 'xgboost'; take 'hist_gradient_boosting'"),
    ],
)
def test_a_model_that_is_declared_wrong_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert said(tmp_path, model_py=(old, new)).startswith(message)


def test_of_two_models_the_one_that_reads_an_unknown_set_is_named(tmp_path: Path) -> None:
    file = write(tmp_path) / "model.py"
    head, _, body = file.read_text().partition("abandoned = ")
    second = body.replace('"abandoned"', '"second"').replace('"basket_now"', '"basket"')
    file.write_text(f"{head}abandoned = {body}second = {second}")
    with pytest.raises(ProjectError, match=r"model\.py:10: model 'second' reads feature set 'basket', which features"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("project", "technical =", "techincal =", "project.toml:4: [owners] has no techincal; write technical"),
        (
            "project",
            "[owners]",
            "[owners]\nname = 'x'",
            "project.toml:4: [owners] has no name; take one of technical, b",
        ),
        ("project", "purpose =", "purpos =", "project.toml:2: the file has no purpos; write purpose"),
        ("project", "[owners]", "[owner]", "project.toml:3: the file has no owner; write owners"),
        (
            "project",
            "impact = 2",
            "harm = 2",
            "project.toml:7: [risk] has no harm; [risk] lacks impact; take one of imp",
        ),
        ("project", 'business = "shop-sales"', "", "project.toml:3: [owners] lacks business; add business"),
        ("project", '"EUR"', '"eur"', "project.toml:12: value.currency is 'eur'; take the three capital letters of a"),
        (
            "monitoring",
            '"retrain"',
            '"mail"',
            "monitoring.toml:6: responses.performance_loss is 'mail'; take 'record', ",
        ),
        ("monitoring", "performance_loss", "loss", "monitoring.toml:6: [responses] has no loss; take 'feature_drift'"),
        (
            "monitoring",
            '"7d"',
            "7",
            "monitoring.toml:3: cooldown: 7 is not a duration: write a text of a number and a un",
        ),
    ],
)
def test_a_document_that_says_something_else_is_named_with_its_line(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    assert said(tmp_path, **{f"{file}_toml": (old, new)}).startswith(message)


FUNCTIONS = [boolean, category, fixed, source, text, Estimator, Gates, Label, Label.of]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__qualname__)
def test_too_many_values_are_refused_whatever_the_function(function) -> None:
    with pytest.raises(DefinitionError, match=r"\(\): it takes .* without a name, not 9.*; write \w+(\.of)?\("):
        function(*range(9))
