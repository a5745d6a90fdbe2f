"""The import path under which another process finds a kit."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
from types import ModuleType

import pytest

from meterkit.flusher.importable import Importable

KIT = "from meterkit import Meter, MeterKit\nkit = MeterKit(meters=[Meter('calls')], flusher='process')\n"


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """A function that writes modules, and imports the last of them; what their kit is found as is asked of it."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def imported(*packages, **modules):
        for name in packages:
            (tmp_path / name).mkdir()
        for name, code in modules.items():
            (tmp_path / f"{name.replace('__', '/')}.py").write_text(code)
        names.extend([*packages, *(name.replace("__", ".") for name in modules)])
        importlib.invalidate_caches()
        return importlib.import_module(names[-1])

    yield imported
    for name in names:
        sys.modules.pop(name, None)


def path_of(kit):
    return kit._supervisor.importable.path()


def test_a_global_of_a_module(imported):
    """Whatever it is called."""
    module = imported(billing_1=KIT.replace("kit =", "the_kit ="))

    assert "billing_1:the_kit" == path_of(module.the_kit)


def test_a_module_of_a_package(imported):
    """Both sides of the path may be dotted; here the first is."""
    module = imported("shop_2", shop_2__billing=KIT)

    assert "shop_2.billing:kit" == path_of(module.kit)


@pytest.mark.parametrize("order", [("app_3", "views_3"), ("views_3", "app_3")])
def test_the_module_that_built_it_comes_before_those_that_import_it(imported, order):
    """They may bring the whole application, whichever was imported first."""
    user = "from billing_3 import kit\n"
    module = imported(billing_3=KIT, **dict.fromkeys(order, user))

    assert "billing_3:kit" == path_of(module.kit)


def test_a_function_of_another_module_may_build_it(imported):
    """What counts is where it is."""
    factory = (
        "from meterkit import Meter, MeterKit\ndef make(): return MeterKit(meters=[Meter('a')], flusher='process')"
    )
    billing = "from factory_4 import make\nkit = make()\n"
    module = imported(factory_4=factory, billing_4=billing, app_4="from billing_4 import kit\n")

    assert "billing_4:kit" == path_of(module.kit)


def test_it_may_be_built_by_nobody_who_has_it(imported):
    """An application's factory that sets it in another module."""
    factory = "import home_5\nfrom meterkit import Meter, MeterKit\n"
    factory += "def make():\n home_5.kit = MeterKit(meters=[Meter('a')], flusher='process')\n return home_5.kit\n"
    module = imported(home_5="kit = None\n", app_5=factory)
    kit = module.make()

    assert "home_5:kit" == path_of(kit)


def test_a_local_has_none():
    """Nobody else can have it."""
    namespace = {}
    exec(KIT, namespace)

    assert path_of(namespace["kit"]) is None


@pytest.mark.parametrize("name", ["__main__", "uwsgi_file_app_py", "alias_6"])
def test_a_module_that_cannot_be_imported_by_its_name_has_none(name, monkeypatch):
    """The program itself, and what servers make out of a file."""
    module = ModuleType(name)
    if name == "alias_6":
        module.__spec__ = importlib.util.spec_from_loader("another", None)
    exec(KIT, vars(module))
    monkeypatch.setitem(sys.modules, name, module)

    assert path_of(module.kit) is None


def test_a_kit_that_is_gone_has_none():
    """The path does not keep it."""

    class Kit:
        pass

    importable = Importable(Kit(), names=[])

    assert importable.path() is None


def test_a_module_that_is_still_being_imported_has_none(imported):
    """Its import may never end, because it serves or consumes; another process would do the same when it imports it."""
    module = imported(billing_9=KIT + "during = kit._supervisor.importable.path()\n")

    assert module.during is None
    assert "billing_9:kit" == path_of(module.kit)


def test_modules_that_change_while_it_is_looked_for(monkeypatch):
    """A garbage collection runs whatever finalisers do, and other threads meanwhile import modules."""
    module = ModuleType("growing")
    module.__spec__ = importlib.util.spec_from_loader("growing", None)
    vars(module).update({f"name_{number}": None for number in range(2_000)})
    module.kit = kit = ModuleType("kit")  # whatever has weak references
    monkeypatch.setitem(sys.modules, "growing", module)
    importable = Importable(kit, names=[])

    def grow(*_):
        setattr(module, f"more_{len(vars(module))}", None)

    threshold = gc.get_threshold()
    gc.callbacks.append(grow)
    gc.set_threshold(1)
    try:
        assert "growing:kit" == importable.path()
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(grow)
