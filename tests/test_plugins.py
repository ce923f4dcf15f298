"""Finding brokers through entry points."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest

from hybridbroker import plugins
from hybridbroker.errors import ConfigurationError
from hybridbroker.plugins import GROUP, find_broker, installed_brokers


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(*pairs: tuple[str, str]) -> None:
        found = [EntryPoint(name=name, value=value, group=GROUP) for name, value in pairs]
        monkeypatch.setattr(plugins, "entry_points", lambda **_: found)

    return install


def test_installed_brokers_names_our_own_without_importing_them() -> None:
    assert {"dhan", "upstox"} <= set(installed_brokers())


def test_two_brokers_by_one_name_are_an_error(install: Callable[..., None]) -> None:
    install(("dhan", "a:PLUGIN"), ("dhan", "b:PLUGIN"))

    with pytest.raises(ConfigurationError, match="two brokers are called 'dhan'"):
        installed_brokers()


def test_one_broker_seen_twice_on_the_path_is_one_broker(install: Callable[..., None]) -> None:
    install(("dhan", "a:PLUGIN"), ("dhan", "a:PLUGIN"))

    assert installed_brokers() == ("dhan",)


def test_an_unknown_broker_is_told_which_ones_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no broker is called 'zerodha'; installed: .*dhan"):
        find_broker("zerodha")


def test_an_entry_point_that_is_no_plugin_is_an_error(install: Callable[..., None]) -> None:
    install(("odd", "json:dumps"))

    with pytest.raises(ConfigurationError, match="no BrokerPlugin"):
        find_broker("odd")


def test_a_package_that_does_not_load_is_an_error_with_its_reason(install: Callable[..., None]) -> None:
    install(("gone", "no_such_module_here:PLUGIN"))

    with pytest.raises(ConfigurationError, match="does not load"):
        find_broker("gone")
