"""An answer of an arm is explained by the version that gave it, and the checker knows which arm that can have been."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from services.cli.tests.test_cli_bundle import (
    CHECK,
    RULES,
    Bundle,
    changed,
    derived,
    drop,
    packed,
    placed,
    quiet,
    refused,
    says,
    tell,
    unlink,
)
from services.cli.tests.told_story import LOG_KEY, MAY, WITNESS_KEY, Changes, Story, onnx, story

from mainstem.cli.evidence.copied import Copy
from mainstem.cli.evidence.explaining import explain
from mainstem.cli.evidence.story import Story as Explained
from mainstem.events.ids import content_id
from mainstem.events.registry import DeploymentArm
from mainstem.serving.arms import place

SALT = "may"
#: Their places are 1,813 and 8,456 of 10,000.
EARLY, LATE = "2013-05-01-UA-0-EWR", "2013-05-01-UA-5-EWR"
DIRECT = {"row": None, "channel": "http"}


def arm(version: int = 2, weight: int = 2_500, *, shadow: bool = False, **fields: str) -> DeploymentArm:
    """Return an arm: version 2 as it answers in the story, or another one."""
    known = {"onnx": content_id(onnx()), "profile": "sha256:p"} if version == 2 else {"onnx": "o", "profile": "p"}
    return DeploymentArm(version=version, weight=weight, shadow=shadow, **{**known, **fields})


def beside(*arms: DeploymentArm, **said: object) -> Changes:
    """Return the log of an answer of version 2 while version 1 is deployed, and these beside it."""
    first = {"version": 1, "onnx": "sha256:1"}
    deployed = {**first, "profile": "sha256:q", "approved_by": "abe", "arms": list(arms), "salt": SALT}
    return {
        "deployment": changed(**deployed),
        "activation": changed(**first),
        "prediction": changed(**{**DIRECT, "entity": EARLY, **said}),
    }


def ahead(*arms: DeploymentArm, **said: object) -> Changes:
    """Return the log of an answer of version 2, which is deployed, while these stand beside it."""
    deployed = changed(arms=list(arms), salt=SALT)
    return {"deployment": deployed, "prediction": changed(**{**DIRECT, "entity": LATE, **said})}


async def explained(folder: Path, told: Story) -> Explained:
    return await explain(Copy(told.copy_to(folder / "copy")), told.ids["prediction"])


#: What stood in the deployment when version 2 answered, what of the entities it has, and how the question came to it.
ARMS: dict[str, tuple[Changes, int, float, str]] = {
    "an arm whose share the entity is in": (beside(arm()), 2, 0.25, "lies in the share of this version"),
    "an arm behind another": (beside(arm(3, 1_000), arm()), 3, 0.25, "lies in the share of this version"),
    "an arm whose share it is not in": (
        beside(arm(), entity=LATE),
        2,
        0.25,
        "the caller named the version: the place of the entity, or of the request, lies in another's",
    ),
    "what the arms leave": (ahead(arm(3)), 2, 0.75, "lies in the share of this version"),
    "what the arms do not leave": (ahead(arm(3), entity=EARLY), 2, 0.75, "the caller named the version"),
    "a shadow": ({**beside(arm(weight=0, shadow=True)), "promotion": None}, 2, 0.0, "it is a shadow"),
    "a row of the stream": ({"deployment": changed(arms=[arm(3)])}, 2, 1.0, "every row of the stream goes"),
}


def test_the_entities_stand_where_the_tests_want_them() -> None:
    assert [place(SALT, entity) for entity in (EARLY, LATE)] == [1813, 8456]


@pytest.mark.parametrize("kind", sorted(ARMS))
async def test_an_answer_is_explained_by_its_version_and_says_by_which_arm_it_came(tmp_path: Path, kind: str) -> None:
    changes, versions, share, route = ARMS[kind]
    told = story(changes)
    found = await explained(tmp_path, told)
    (rollout,), (deployment,) = found.statements["rollout"], found.statements["deployment"]
    assert found.faults == []
    assert (rollout.derived["arms"], rollout.derived["share"]) == (versions, share)
    assert route in str(rollout.derived["route"])
    assert deployment.says["arms"] == [one.model_dump() for one in told.facts["deployment"].arms]  # type: ignore[attr-defined]
    assert found.statements["builders"][0].leaf == told.leaf("registration")
    CHECK(await packed(tmp_path / "bundle", told), LOG_KEY, WITNESS_KEY)


async def test_who_names_no_entity_stands_where_the_id_of_the_request_does(tmp_path: Path) -> None:
    told = story(beside(arm(weight=5_000), entity=None))
    found = await explained(tmp_path, told)
    request = str(found.statements["correlation"][0].says["ce_correlationid"])
    expected = "lies in the share of this version" if place(SALT, request) < 5_000 else "the caller named the version"
    assert expected in str(found.statements["rollout"][0].derived["route"])
    CHECK(await packed(tmp_path / "bundle", told), LOG_KEY, WITNESS_KEY)


async def test_of_two_deployments_that_have_the_version_the_later_is_told(tmp_path: Path) -> None:
    told = story({"prediction": changed(**DIRECT, entity=EARLY)})
    wanted, begun = told.facts["deployment"], told.facts["activation"]
    other = {"version": 3, "onnx": "sha256:3"}
    update = {**other, "profile": "sha256:q", "arms": [arm()], "salt": SALT}
    then = told.tell("deployment then", wanted.model_copy(update=update), MAY)
    told.tell("activation then", begun.model_copy(update=other), MAY, cause=then)
    found = await explained(tmp_path, told)
    assert (found.faults, found.statements["deployment"][0].leaf) == ([], told.leaf("deployment then"))
    assert found.statements["rollout"][0].derived["share"] == 0.25


#: Logs in which the deployment does not stand for the answer, and what is said of it.
UNFIT: dict[str, tuple[Changes, str, str]] = {
    "other bytes": (
        beside(arm(onnx="sha256:other")),
        "deployment: it is about sha256:other",
        "deployment: its onnx is not the prediction.onnx",
    ),
    "another profile": (
        beside(arm(profile="sha256:other")),
        "deployment: its profile is 'sha256:other'",
        "deployment: its profile is not the registration.profile",
    ),
    "a version twice": (
        beside(arm(), arm()),
        "deployment: it names a version twice",
        "deployment: its arms cannot stand beside each other",
    ),
    "more than all": (
        beside(arm(), arm(3, 9_000)),
        "deployment: its weights make 11500 of 10000",
        "deployment: its arms cannot stand beside each other",
    ),
    "a shadow that answers": (
        beside(arm(shadow=True)),
        "deployment: versions [2] have a weight below 0, or answer as shadows",
        "deployment: its arms cannot stand beside each other",
    ),
    "an arm that answers the stream": (
        {**beside(arm()), "prediction": lambda same: same},
        "deployment: it is about version 1, version 2 answered",
        "deployment: its version is not the prediction.version",
    ),
    "an arm that was never promoted": (
        {**beside(arm()), "promotion": None},
        "",
        "promotion: it is lacking",
    ),
    "an activation of another version": (
        {**beside(arm()), "activation": changed(version=2)},
        "",
        "deployment: it is lacking|its version is not the activation.version",
    ),
}


@pytest.mark.parametrize("kind", sorted(UNFIT))
async def test_an_arm_that_cannot_have_answered_is_told_and_refused(tmp_path: Path, kind: str) -> None:
    changes, fault, said = UNFIT[kind]
    told = story(changes)
    found = await explained(tmp_path, told)
    assert any(each.startswith(fault) for each in found.faults) if fault else found.gaps.keys() - {"trace"}
    why = refused(await packed(tmp_path / "bundle", told, quiet))
    assert any(one in why for one in said.split("|")), why


async def test_a_version_that_no_arm_has_is_not_put_beside_the_deployment(tmp_path: Path) -> None:
    told = story(beside(arm(3)))

    def named(told: Story, found: Explained) -> None:
        assert "no activation in effect by then" in found.gaps["activation"]
        for part in ("activation", "deployment"):
            found.link(part, placed(told)[told.leaf(part)])

    forged = await packed(tmp_path, told, named)
    for part in ("activation", "deployment"):
        tell(forged, part)
    rollout = {"arms": 2, "share": 0.75, "route": RULES["rollout"]["drawn"]}
    forged["explanation"]["fields"]["rollout"][0]["derived"] = rollout
    assert "deployment: its version is not the prediction.version" in refused(forged)


@pytest.fixture(scope="module")
async def honest(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return await packed(tmp_path_factory.mktemp("honest"), story(beside(arm(), entity=LATE)))


def reroute(bundle: Bundle) -> None:
    """Say that the entity was drawn for the version that the caller named."""
    route = "the place of the entity, or of the request that names none, lies in the share of this version"
    derived(bundle, "rollout").update(route=route)


def unpromoted(bundle: Bundle) -> None:
    for part, fields in {"promotion": ("promotion", "rollback"), "replaced": ()}.items():
        unlink(bundle, part)
        for field in fields:
            drop(bundle, field)


#: What is done to the bundle of an answer of an arm, and what the checker says of it.
TOLD_OTHERWISE: dict[str, tuple[Callable[[Bundle], object], str]] = {
    "the share": (lambda b: derived(b, "rollout").update(share=1.0), "rollout: it is told otherwise"),
    "the route": (reroute, "rollout: it is told otherwise"),
    "the arms": (lambda b: says(b, "deployment").pop("arms"), "deployment: it does not quote arms"),
    "a weight": (lambda b: says(b, "deployment")["arms"][0].update(weight=1), "has another arms"),
    "the salt": (lambda b: says(b, "deployment").update(salt="june"), "has another salt"),
    "the promotion": (unpromoted, "promotion: it is lacking"),
}


@pytest.mark.parametrize("kind", sorted(TOLD_OTHERWISE))
def test_a_bundle_that_tells_otherwise_of_an_arm_is_refused(honest: Bundle, kind: str) -> None:
    CHECK(honest, LOG_KEY, WITNESS_KEY)
    forged = copy.deepcopy(honest)
    change, said = TOLD_OTHERWISE[kind]
    change(forged)
    assert said in refused(forged)
