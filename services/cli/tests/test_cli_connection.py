"""How commands find the platform."""

from pathlib import Path

import pytest

from mainstem.cli import connection
from mainstem.cli.local import principals
from mainstem.cli.local.errors import LocalError, NotRunning
from mainstem.cli.local.home import Home


@pytest.fixture(autouse=True)
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home.at(tmp_path / "with a space")
    home.create()
    home.state.touch()
    principals.ensure(home.principals)
    home.env.write_text(f"export MAINSTEM_PRINCIPALS='{home.principals}'\nexport MAINSTEM_REGISTRY_URL=http://here:1\n")
    for name in ("MAINSTEM_TOKEN", "MAINSTEM_PRINCIPALS", "MAINSTEM_REGISTRY_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MAINSTEM_HOME", str(home.root))
    return home


def test_a_setting_comes_from_the_local_platform() -> None:
    assert connection.setting("MAINSTEM_REGISTRY_URL") == "http://here:1"


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTEM_REGISTRY_URL", "http://there:2")
    assert connection.setting("MAINSTEM_REGISTRY_URL") == "http://there:2"


def test_a_setting_that_nobody_has_is_an_error_with_its_name() -> None:
    with pytest.raises(LocalError, match="MAINSTEM_LEDGER_URL is neither in the environment nor in"):
        connection.setting("MAINSTEM_LEDGER_URL")


def test_a_principal_has_its_token(platform: Home) -> None:
    assert connection.token("approver") in platform.principals.read_text()
    assert connection.token("approver") != connection.token("operator")


def test_an_unknown_principal_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(LocalError, match="there are: operator, builder, approver"):
        connection.token("root")


def test_without_a_platform_the_error_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAINSTEM_HOME")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotRunning, match="start one with `mainstem up`"):
        connection.setting("MAINSTEM_REGISTRY_URL")
