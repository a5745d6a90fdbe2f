"""The examples: what they say about themselves is true."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
MODULES = ("billing", "bureau", "flask_app", "django_app", "fastapi_app", "batch_job")


@pytest.fixture
def load(monkeypatch, tmp_path):
    """A function that imports an example anew, with a ledger of its own."""
    monkeypatch.setenv("METERKIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(EXAMPLES)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    sys.modules["billing"].kit.close()
    for name in MODULES:
        sys.modules.pop(name, None)


def flask_client(load):
    """A function that posts to the Flask example."""
    client = load("flask_app").app.test_client()
    return lambda body, headers: client.post("/RetrieveCreditScore", json=body, headers=headers).status_code


def fastapi_client(load):
    """The same for FastAPI."""
    transport = httpx.ASGITransport(load("fastapi_app").app)

    async def post(body, headers):
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return (await client.post("/RetrieveCreditScore", json=body, headers=headers)).status_code

    return lambda body, headers: asyncio.run(post(body, headers))


@pytest.mark.parametrize("make_client", [flask_client, fastapi_client])
def test_only_an_answer_of_200_is_billed(load, make_client):
    """To the company of the API key; without one, to nobody."""
    post = make_client(load)
    acme, globex = {"X-Api-Key": "key-of-acme"}, {"X-Api-Key": "key-of-globex"}

    assert [200, 200, 200] == [post({"person": "ada"}, key) for key in (acme, acme, globex)]
    assert 404 == post({"person": "a stranger"}, acme)
    assert post({"persona": "ada"}, acme) in (400, 422)
    assert 503 == post({"person": "nobody@home"}, acme)
    assert [200, 200] == [post({"person": "ada"}, key) for key in ({}, {"X-Api-Key": "a guess"})]

    assert {"acme": 2, "globex": 1, None: 2} == billed()


def test_the_django_example(tmp_path):
    """The same, in a process of its own, because Django has one configuration in each."""
    script = (
        "import django_app, json; from django.test import Client; from billing import kit\n"
        "client = Client(headers={'X-Api-Key': 'key-of-acme'})\n"
        "people = ['ada', 'ada', 'a stranger', 'nobody@home']\n"
        "url = '/RetrieveCreditScore'\n"
        "print([client.post(url, {'person': each}, 'application/json').status_code for each in people])\n"
        "kit.flush(); print({row.company: row.quantity for row in kit.usage()}); kit.close()"
    )

    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={"METERKIT_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": str(EXAMPLES)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ["[200, 200, 404, 503]", "{'acme': 2}"] == ended.stdout.splitlines(), ended.stderr


def test_the_batch_job(load, capsys):
    """Who was found is billed, and nobody else."""
    load("batch_job").main("acme", ["ada", "a stranger", "grace"])

    assert ["ada: 810", "a stranger: UnknownPersonError", "grace: 790"] == capsys.readouterr().out.splitlines()
    assert {"acme": 2} == billed()


def billed():
    """What is in the ledger, by company."""
    kit = sys.modules["billing"].kit
    kit.flush()
    return {row.company: row.quantity for row in kit.usage()}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*_*.py")), ids=lambda path: path.name)
def test_an_example_says_how_to_run_it(path):
    """Requirements, installation, and a command that names the file."""
    text = path.read_text().partition('"""')[2].partition('"""')[0]

    assert ["Requires", "To install", "To run"] == re.findall(r"^(Requires|To install|To run):", text, re.MULTILINE)
    assert path.stem in text.partition("To run:")[2].splitlines()[0]
    assert path.name in (EXAMPLES / "README.md").read_text()
