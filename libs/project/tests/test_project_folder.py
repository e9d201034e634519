"""A folder becomes one canonical definition, or an error that says file, line and fix."""

import hashlib
from pathlib import Path

import orjson
import pytest
from libs.project.tests.folders import FILES, load, write

from mainstem.events.errors import Rejected
from mainstem.project import Label, ProjectError, load_folder, parse

SALE = """\
sale = source("sale", key="basket", columns={
    "basket": category("the basket"),
    "chain": category("whose"),
    "worth": fixed("what was paid", unit="EUR", lo=0, hi=1000, scale=100),
})
"""
LABEL = 'Label(source="basket", key="basket", column="worth", above=10, wait="1d")'


def targeted(folder: Path, by: str = "basket") -> Path:
    """Give the set of a folder the target `big`, in its second line: whether a sale is worth more than 10."""
    sources, features = folder / "sources.py", folder / "features.py"
    sources.write_text(sources.read_text() + SALE)
    text = features.read_text().replace("import feature_set", "import feature_set, target")
    text = text.replace("from .sources import basket", "from .sources import basket, sale")
    target = f'    big = target(sale.stream().worth > 10, on="{by}", wait="1d")\n'
    features.write_text(text.replace("    worth = baskets.worth\n", f"    worth = baskets.worth\n{target}"))
    return folder


def labelled(folder: Path) -> Path:
    """Write a folder whose model takes its label from the target of its set."""
    model = targeted(write(folder)) / "model.py"
    model.write_text(f"from .features import BasketNow\n{model.read_text().replace(LABEL, 'Label.of(BasketNow)')}")
    return folder


def test_a_model_takes_its_label_from_the_target_of_its_set(tmp_path: Path) -> None:
    found = load_folder(labelled(tmp_path)).models["abandoned"].label
    assert found == Label(source="sale", key="basket", column="worth", above=10, wait="1d")


def test_what_is_no_feature_set_gives_no_label(tmp_path: Path) -> None:
    with pytest.raises(
        ProjectError, match=r"Label\.of\(\): the class int is no feature set; give the class below @feature_set"
    ):
        load(
            tmp_path,
            model_py=('Label(source="basket", key="basket", column="worth", above=10, wait="1d")', "Label.of(int)"),
        )


def test_a_set_without_a_target_is_named_by_its_name(tmp_path: Path) -> None:
    folder = write(tmp_path)
    model = folder / "model.py"
    text = model.read_text().replace(LABEL, "Label.of(BasketNow)")
    model.write_text(f"from .features import BasketNow\n{text}")
    with pytest.raises(ProjectError, match="feature set 'basket_now' has no target; declare one beside"):
        load_folder(folder)


def test_a_feature_that_is_written_twice_is_refused_at_the_second(tmp_path: Path) -> None:
    again = ("    worth = baskets.worth\n", "    worth = baskets.worth\n    worth = baskets.worth * 2\n")
    with pytest.raises(ProjectError, match=r"features\.py:10: worth: it is written twice"):
        load(tmp_path, features_py=again)


def test_a_folder_becomes_one_definition(tmp_path: Path) -> None:
    project = load(tmp_path)
    assert (list(project.sources), list(project.feature_sets), list(project.models)) == (
        ["basket"],
        ["basket_now"],
        ["abandoned"],
    )
    assert project.models["abandoned"].label.wait == 86_400_000_000
    assert project.monitoring.response("feature_drift") == "record"
    assert project.charter.risk.tier == "low"


def declared(folder: Path, *names: str) -> Path:
    """Write a folder that declares the feature set once for each of `names`, with what stands behind the name."""
    file = write(folder) / "features.py"
    head, _, body = file.read_text().partition("@")
    sets = [body.replace('"basket_now"', name).replace("BasketNow", f"Number{i}") for i, name in enumerate(names)]
    file.write_text("\n".join([head, *(f"@{one}" for one in sets)]))
    return folder


def test_versions_of_a_feature_set_stand_under_their_labels(tmp_path: Path) -> None:
    file = declared(tmp_path, '"basket_now"', '"basket_now", version=2') / "model.py"
    file.write_text(file.read_text().replace('"basket_now"', '"basket_now.v2"'))
    project = load_folder(tmp_path)
    assert list(project.feature_sets) == ["basket_now", "basket_now.v2"]
    assert project.models["abandoned"].feature_set == "basket_now.v2"
    assert parse(project.canonical()) == project


def test_a_feature_set_that_is_declared_twice_is_refused_and_not_lost(tmp_path: Path) -> None:
    declared(tmp_path, '"basket_now"', '"basket_now"')
    with pytest.raises(ProjectError, match=r"features\.py:13: 'basket_now' is declared twice; .* another version"):
        load_folder(tmp_path)


def test_a_name_that_the_broker_takes_for_a_version_is_refused(tmp_path: Path) -> None:
    declared(tmp_path, '"basket_now"', '"basket_now", version=2', '"basket_now_v2"')
    with pytest.raises(ProjectError, match=r"'basket_now\.v2' and 'basket_now_v2' would have one topic"):
        load_folder(tmp_path)


def test_the_definition_survives_its_canonical_form(tmp_path: Path) -> None:
    project = load(tmp_path)
    assert parse(project.canonical()) == project
    assert parse(project.canonical()).id == project.id
    assert parse(project.model_dump(mode="json")).id == project.id


def test_the_id_depends_on_the_meaning_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert load(tmp_path / "a").id == load(tmp_path / "b", monitoring_toml=('"7d"', '"168h"')).id


def test_the_id_changes_with_the_meaning(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert load(tmp_path / "a").id != load(tmp_path / "b", sources_py=("hi=1000", "hi=1001")).id


def test_the_id_is_the_hash_of_sorted_json(tmp_path: Path) -> None:
    project = load(tmp_path)
    text = orjson.dumps(orjson.loads(project.canonical()), option=orjson.OPT_SORT_KEYS)
    assert project.id == f"sha256:{hashlib.sha256(text).hexdigest()}"


def test_two_projects_with_files_of_the_same_names_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = load(tmp_path / "a")
    second = load(tmp_path / "b", sources_py=("hi=1000", "hi=2000"))
    assert first.sources["basket"].columns != second.sources["basket"].columns


def overflow(model: str, policy: str) -> tuple[str, str]:
    return "latency_ms = 20", f'latency_ms = 20\n[overflow]\n{model} = "{policy}"'


@pytest.mark.parametrize(
    ("changes", "place", "said"),
    [
        ({"sources_py": ("lo=0, hi=1000", "lo=9, hi=1")}, "sources.py:5", "lo 9.0 lies above hi 1.0"),
        ({"sources_py": ('key="basket"', 'key="worth"')}, "sources.py:3", "must name a category column"),
        ({"sources_py": ("import category", "import kategory")}, "sources.py:1", "ImportError"),
        ({"sources_py": ("basket = ", "raise SystemExit(3)\nbasket = ")}, "sources.py:3", "SystemExit: 3"),
        ({"features_py": ("baskets = basket", "baskets == basket")}, "features.py:5", "NameError"),
        ({"features_py": ("class BasketNow:", "class BasketNow")}, "features.py:8", "SyntaxError"),
        ({"features_py": ("baskets.worth", "baskets.weight")}, "features.py:9", "basket has no column weight"),
        ({"model_py": ('evaluation_window="3d"', 'evaluation_window="30d"')}, "model.py:3", "whole training window"),
        ({"model_py": ('wait="1d"', 'wait="soon"')}, "model.py:5", "'soon' is not a duration"),
        ({"model_py": ('feature_set="basket_now"', 'feature_set="other"')}, "model.py:4", "'other', which features.py"),
        ({"model_py": ('column="worth"', 'column="basket"')}, "model.py:5", "needs a number"),
        ({"model_py": ('source="basket"', 'source="till"')}, "model.py:5", "'till', which is no source"),
        ({"project_toml": ("impact = 2", "impact = 6")}, "project.toml:7", "less than or equal to 5"),
        ({"project_toml": ("impact = 2", "impact = ")}, "project.toml:7", "Invalid value"),
        ({"monitoring_toml": ("performance_loss", "loss")}, "monitoring.toml:6", "performance_loss"),
        ({"serving_toml": ("latency_ms", "latency")}, "serving.toml:1", "latency"),
        ({"serving_toml": ("20\n", '20\n[lookup]\nstale = "guess"\n')}, "serving.toml:3", "take 'refuse' or 'mark'"),
        (
            {"serving_toml": ("20\n", '20\n[lookup.limits]\ntill = "3h"\n')},
            "serving.toml:3",
            "'till', which is no source",
        ),
        ({"serving_toml": ("20\n", "20\n[lookup.limits]\nbasket = 3\n")}, "serving.toml:3", "3 is not a duration"),
        ({"serving_toml": overflow("till", "block")}, "serving.toml:3", "said of 'till', which is no model"),
        ({"serving_toml": overflow("abandoned", "forget")}, "serving.toml:3", "take 'block' or 'drop'"),
        (
            {"serving_toml": overflow("abandoned", "drop"), "project_toml": ("exposure = 1", "exposure = 2")},
            "serving.toml:3",
            "rules cover it: regulatory_exposure is 2",
        ),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    tmp_path: Path, changes: dict[str, tuple[str, str]], place: str, said: str
) -> None:
    with pytest.raises(ProjectError) as error:
        load(tmp_path, **changes)
    assert f"{tmp_path / place}: " in str(error.value)
    assert said in str(error.value)


def test_a_definition_from_before_calls_by_entity_keeps_its_address(tmp_path: Path) -> None:
    assert b"lookup" not in load(tmp_path).canonical()
    asked = load(tmp_path, serving_toml=("20\n", '20\n[lookup.limits]\nbasket = "3h"\n'))
    assert parse(asked.canonical()) == asked
    assert asked.serving.lookup is not None
    assert asked.serving.lookup.limits == {"basket": 3 * 3_600_000_000}


def test_a_model_that_no_rule_covers_may_drop_and_what_is_not_said_changes_no_address(tmp_path: Path) -> None:
    silent = load(tmp_path)
    assert b"overflow" not in silent.canonical()
    said = load(tmp_path, serving_toml=overflow("abandoned", "drop"))
    assert said.serving.overflow == {"abandoned": "drop"}
    assert parse(said.canonical()) == said
    assert said.id != silent.id


def chained(folder: Path, *, model_by: str = "basket", target_by: str = "basket") -> Path:
    """Write a folder whose baskets belong to a chain; the model's label and a target are joined by these columns."""
    chain = ('"basket": category("the basket"),', '"basket": category("the basket"), "chain": category("whose"),')
    return targeted(write(folder, sources_py=chain, model_py=('key="basket"', f'key="{model_by}"')), target_by)


def test_a_feature_that_cannot_be_compiled_is_named_where_it_stands_though_the_model_asks_for_it(
    tmp_path: Path,
) -> None:
    folder = labelled(tmp_path)
    file = folder / "features.py"
    file.write_text(file.read_text().replace('by("basket")', 'by("baskt")'))
    with pytest.raises(ProjectError, match=r"features\.py:11: mean_1h: key baskt is not a column of basket; add"):
        load_folder(folder)


@pytest.mark.parametrize(("second", "line"), [("baskets.weight", 15), ("baskets.worth", 16)])
def test_of_two_versions_with_features_of_the_same_names_the_broken_one_is_named(
    tmp_path: Path, second: str, line: int
) -> None:
    file = declared(tmp_path, '"basket_now"', '"basket_now", version=2') / "features.py"
    first, again, body = file.read_text().rpartition("    worth = ")
    broken = body.replace("baskets.worth", second, 1).replace('mean("worth"', 'mean("weight"')
    file.write_text(f"{first}{again}{broken}")
    with pytest.raises(ProjectError, match=rf"features\.py:{line}: \w+: basket has no column weight") as error:
        load_folder(tmp_path)
    assert error.value.line == line


def test_a_fault_of_a_whole_set_is_named_at_its_beginning(tmp_path: Path) -> None:
    file = declared(tmp_path, '"basket_now"', '"basket_now", version=2') / "features.py"
    first, again, second = file.read_text().rpartition("@")
    file.write_text(f"{first}{again}{second.replace('1h', '-1h', 1)}")
    with pytest.raises(ProjectError, match=r"features\.py:13: basket_now: '-1h' is not a duration"):
        load_folder(tmp_path)


def test_a_set_from_another_file_of_the_folder_is_named_there(tmp_path: Path) -> None:
    file = write(tmp_path, features_py=("baskets.worth", "baskets.weight")) / "features.py"
    file.rename(file.with_name("baskets.py"))
    file.write_text("from .baskets import BasketNow\n")
    with pytest.raises(ProjectError, match=r"baskets\.py:9: worth: basket has no column weight"):
        load_folder(tmp_path)


def test_a_set_that_is_no_class_is_named_by_its_first_such_feature(tmp_path: Path) -> None:
    file = write(tmp_path) / "features.py"
    head, _, _ = file.read_text().partition("@")
    made = "features = dict(\n    worth=baskets.weight,\n)\n"
    file.write_text(
        f'{head}{made}Made = feature_set("basket_now", spine=baskets, lateness="1h")(type("M", (), features))\n'
    )
    with pytest.raises(ProjectError, match=r"features\.py:8: worth: basket has no column weight"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("joined", "said"),
    [
        ({"model_by": "chain"}, r"model\.py:4: the label of model 'abandoned' is joined by 'chain'"),
        ({"target_by": "chain"}, r"features\.py:10: the target 'big' is joined by 'chain'"),
    ],
)
def test_a_label_that_is_not_joined_by_the_key_of_the_spine_is_refused(
    tmp_path: Path, joined: dict[str, str], said: str
) -> None:
    known = r"rows of 'basket_now' are known by 'basket', the key of their spine; join it by 'basket', or take a spine"
    with pytest.raises(ProjectError, match=rf"{said}, but {known}"):
        load_folder(chained(tmp_path, **joined))


def test_a_label_whose_key_is_a_number_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, model_py=('source="basket"', 'source="till"')) / "sources.py"
    till = (
        'till = source("till", key="till", columns={"till": category("the till"),\n'
        '    "basket": fixed("its number", unit="1", lo=0, hi=99, integer=True),\n'
        '    "worth": fixed("what was paid", unit="EUR", lo=0, hi=1000)})\n'
    )
    file.write_text(file.read_text() + till)
    found = r"joined by 'basket', a fixed column of 'till', which is never what a row is known by"
    with pytest.raises(ProjectError, match=rf"model\.py:4: the label of model 'abandoned' is {found}; make 'basket'"):
        load_folder(tmp_path)


def test_a_target_of_what_is_no_source_is_refused(tmp_path: Path) -> None:
    file = targeted(write(tmp_path)) / "features.py"
    other = 'other = stream("other", key="basket", columns={"worth": fixed("EUR", lo=0, hi=99)})\n\n@feature_set('
    features = file.read_text().replace("import feature_set, target", "import feature_set, fixed, stream, target")
    file.write_text(features.replace("@feature_set(", other).replace("sale.stream().worth", "other.worth"))
    with pytest.raises(ProjectError, match=r"features\.py:12: the target 'big' comes from 'other', which is no source"):
        load_folder(tmp_path)


def test_a_definition_whose_label_was_joined_otherwise_can_still_be_read(tmp_path: Path) -> None:
    document = load_folder(chained(tmp_path)).model_dump(mode="json")
    document["models"]["abandoned"]["label"]["key"] = "chain"
    found = parse(document)
    assert (found.models["abandoned"].label.key, found.known_by("basket_now")) == ("chain", "basket")


def test_an_error_of_the_author_s_own_kind_is_named_with_its_line(tmp_path: Path) -> None:
    file = write(tmp_path) / "sources.py"
    file.write_text(f"class Oops(Exception):\n    pass\nraise Oops('no')\n{file.read_text()}")
    with pytest.raises(ProjectError, match=r"sources\.py:3: Oops: no; correct this line"):
        load_folder(tmp_path)


def test_a_document_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    file = write(tmp_path) / "project.toml"
    file.write_bytes(file.read_bytes().replace(b"impact", b"# caf\xe9\nimpact"))
    with pytest.raises(ProjectError, match=r"project\.toml:7: is not UTF-8 .*; save it as UTF-8"):
        load_folder(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    with pytest.raises(ProjectError, match=f"{name}:1: .*every project has this file"):
        load_folder(tmp_path)


@pytest.mark.parametrize("document", [b"", b"{}", b"[]", {"format": "mainstem.project.v2"}])
def test_what_is_no_definition_is_rejected(document: bytes | dict[str, object]) -> None:
    with pytest.raises(Rejected, match="apply the project folder again"):
        parse(document)


def test_a_definition_whose_feature_set_was_altered_is_rejected(tmp_path: Path) -> None:
    altered = load(tmp_path).canonical().replace(b'"lateness_us":3600000000', b'"lateness_us":3600000001')
    with pytest.raises(Rejected, match="hashes to"):
        parse(altered)
