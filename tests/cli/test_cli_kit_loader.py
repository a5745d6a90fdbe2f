"""From an import path to a kit, or to a one-line error."""

from __future__ import annotations

import json

import pytest
from cli_shell import meterkit


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("billing", "'billing' is not an import path; write module:attribute, such as billing:kit"),
        ("billing.kit", "'billing.kit' is not an import path; write module:attribute, such as billing:kit"),
        (":kit", "':kit' is not an import path; write module:attribute, such as billing:kit"),
        ("billing.py:kit", "no module 'billing.py' in {here} or among the installed packages"),
        (
            "./billing:kit",
            "'./billing:kit' is not an import path; write module:attribute, such as billing:kit",
        ),
        ("bulling:kit", "no module 'bulling' in {here} or among the installed packages; run the command in"),
        ("shop.billing:kit", "no module 'shop' in {here}"),
        ("billing:kot", "billing has no 'kot'; did you mean billing:kit?"),
        ("billing:kit.kit", "billing has no 'kit.kit'; did you mean billing:kit?"),
        ("billing:Meter", "billing:Meter is of type type, not MeterKit; did you mean billing:kit?"),
        ("json:dumps", "json:dumps is of type function, not MeterKit; json contains no MeterKit, so name the"),
    ],
)
def test_a_wrong_import_path(shop, path, complaint):
    """One line that says how to fix it, and 2."""
    code, out, err = meterkit("health", path)

    assert (2, "") == (code, out)
    assert err.startswith(f"meterkit: {complaint.format(here=shop)}")
    assert 1 == err.count("\n")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("x = 1\nraise ValueError('two\\nlines')", "ValueError: two lines ({here}/wrong.py, line 2)"),
        ("def kit(:", "SyntaxError: invalid syntax (wrong.py, line 1)"),
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind' ({here}/wrong.py,"),
        ("import sys; sys.exit(3)", "SystemExit: 3 ({here}/wrong.py, line 1)"),
        ("from meterkit import *\nkit = MeterKit(meters=[])", "meters= is empty, so nothing would be counted"),
        ("from meterkit import *\nkit = MeterKit(meters=[])", "add at least one Meter ({here}/wrong.py, line 2)"),
    ],
)
def test_a_module_that_cannot_be_imported(shop, source, complaint):
    """One line that says what and where, and 2."""
    (shop / "wrong.py").write_text(source)

    code, out, err = meterkit("health", "wrong:kit")

    assert (2, "", 1) == (code, out, err.count("\n"))
    assert err.startswith("meterkit: wrong cannot be imported: ")
    assert complaint.format(here=shop) in err


def test_a_kit_further_down(shop):
    """Modules and attributes may have dots."""
    package = shop / "shop"
    package.mkdir()
    (package / "money.py").write_text("import types, billing\nsettings = types.SimpleNamespace(kit=billing.kit)")

    assert 0 == meterkit("usage", "shop.money:settings.kit")[0]


def test_a_module_that_prints(shop):
    """What it prints does not get into the data."""
    (shop / "chatty.py").write_text("print('hello')\nfrom billing import kit")

    code, out, err = meterkit("usage", "chatty:kit", "--json")

    assert (0, "hello\n", {"usage": [], "totals": {}}) == (code, err, json.loads(out))


@pytest.mark.parametrize("verb", ["usage", "flush", "report", "health"])
def test_a_ledger_that_cannot_be_had(shop, stripe, tmp_path, monkeypatch, verb):
    """It is named, without a traceback, and the code says that something needs attention."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("METERKIT_LEDGER", f"sqlite:///{tmp_path}/file/ledger.sqlite")

    code, out, err = meterkit(verb, "billing:kit")

    assert 1 == code
    assert f"{tmp_path}/file/ledger.sqlite" in out + err
    assert "Traceback" not in err
    if verb != "health":  # which says so on stdout
        assert 1 == err.count("\n")
