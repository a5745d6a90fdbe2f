"""A new project, as the guide sets it up: it works, to the last line and with no line more."""

from __future__ import annotations

import os
import re

import pytest
from guard import tries
from guided_project import GuidedProject, of_the_guide

pytestmark = pytest.mark.long


@pytest.fixture
def project(tmp_path):
    """The project, with a user."""
    project = GuidedProject(tmp_path)
    code, printed = project.manage("migrate", "-v", "0")
    assert (0, "") == (code, printed)
    code, printed = project.manage("createsuperuser", "--noinput", "--username", "ann", "--email", "ann@shop.example")
    assert code == 0, printed
    yield project
    project.stop()


def test_it_is_short():
    """Under fifteen lines of settings and code, but for blank ones."""
    lines = [line for text in of_the_guide().values() for line in text.splitlines() if line.strip()]

    assert len(lines) < 15


def test_what_the_guide_says(project):
    """Checked, served, counted once by the two processes of runserver, shown to the one who pays, and printed."""
    assert (0, "System check identified no issues (0 silenced).\n") == project.manage("check")
    project.serve()

    assert 401 == project.get("/billing")[0]
    assert (200, '{"hello": ""}') == project.get("/v1/hello")
    project.sign_in()
    for _ in range(7):
        assert (200, '{"hello": "ann"}') == project.get("/v1/hello")
    for _ in tries():
        status, page = project.get("/billing")
        assert 200 == status
        if ">7<" in page:
            break
    assert project.usage() == {"calls": 8}
    status, index = project.get("/admin/")
    lists = re.findall(r'href="(/admin/meterkit/\w+/)"', index)
    assert {"/admin/meterkit/company/", "/admin/meterkit/usage/"} <= set(lists)
    assert [200] * len(lists) == [project.get(each)[0] for each in lists]
    user = "1"  # the primary key of ann, as company_of("pk") says
    assert [f"<td><bdi>{user}</bdi></td>"] == re.findall(
        r"<tr>(<td>.*?</td>)", project.get("/admin/meterkit/company/")[1]
    )
    of_user = project.get(f"/admin/meterkit/usage/?q={user}")[1]
    assert "<td><bdi>calls</bdi></td><td><bdi>1</bdi></td>" in of_user
    assert "<td><bdi>7</bdi></td>" in of_user
    project.stop()

    assert project.usage() == {"calls": 8}
    code, printed = project.manage("meterkit", "health")
    assert 1 == code
    assert "no Stripe key: set STRIPE_SECRET_KEY" in printed
    assert (project.directory / "var" / "ledger.sqlite").exists()
    assert not (project.directory / ".meterkit").exists()


def test_a_reload(project):
    """When code changes, runserver starts its second process anew: nothing is lost, and nothing counted twice."""
    urls = project.directory / "shop" / "urls.py"
    before = urls.read_text()
    project.serve()
    answered, unclear = 0, 0
    for version in range(3):
        urls.write_text(before.replace("request.user.username", str(version)))
        for _ in tries():
            try:
                status, body = project.get("/v1/hello")
            except OSError as error:  # between the two, of which the first may have counted it
                unclear += not isinstance(getattr(error, "reason", error), ConnectionRefusedError)
                continue
            assert 200 == status
            answered += 1
            if body == f'{{"hello": {version}}}':
                break
            os.utime(urls)  # a change before the second process looks for changes for the first time goes unnoticed
    project.stop()

    assert answered <= project.usage()["calls"] <= answered + unclear
