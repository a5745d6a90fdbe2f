"""The examples do what they say: one API on three frameworks, and a job outside HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
MODULES = sorted(path.name for path in EXAMPLES.glob("*.py"))

CASES = [
    # API key, body, statuses, score
    ("key-of-acme", {"person": "ada"}, {200}, 810),
    ("key-of-acme", {"person": "linus"}, {200}, 640),
    ("key-of-globex", {"person": "grace"}, {200}, 790),
    ("", {"person": "ada"}, {200}, 810),
    ("key-of-nobody", {"person": "ada"}, {200}, 810),
    ("key-of-acme", {"person": "a stranger"}, {404}, None),
    ("key-of-acme", {"person": "nobody@home"}, {503}, None),
    ("key-of-acme", {"persona": "ada"}, {400, 422}, None),
    ("key-of-acme", {"person": 7}, {400, 422}, None),
    ("key-of-acme", {"person": ["ada"]}, {400, 422}, None),
    ("key-of-acme", [], {400, 422}, None),
    ("key-of-acme", None, {400, 422}, None),
]

CLIENTS = {
    "flask": """
from flask_app import app
client = app.test_client()
""",
    "django": """
from django_app import app
from django.test import Client
client = Client()
""",
    "fastapi": """
import warnings
warnings.filterwarnings("ignore", "Using `httpx` with")  # Starlette's test client is for httpx's successor
from fastapi_app import app
from fastapi.testclient import TestClient
client = TestClient(app, raise_server_exceptions=False)
""",
}

ASK = """
import json, sys
import billing
answers = []
for key, body in json.load(sys.stdin):
    {post}
    answers.append([answer.status_code, json.loads(answer.{body}).get("score")])
billing.kit.flush()
used = [[usage.company, usage.quantity] for usage in billing.kit.usage()]
billing.kit.close()
print(json.dumps([answers, used]))
"""

POSTS = {
    "flask": 'answer = client.post(PATH, data=json.dumps(body), content_type=TYPE, headers={"X-Api-Key": key})',
    "django": "answer = client.post(PATH, json.dumps(body), content_type=TYPE, HTTP_X_API_KEY=key)",
    "fastapi": (
        'answer = client.post(PATH, content=json.dumps(body), headers={"Content-Type": TYPE, "X-Api-Key": key})'
    ),
}
BODIES = {"flask": "data", "django": "content", "fastapi": "content"}


def run(*words, data_dir, stdin=""):
    """Run Python in the directory of the examples; answer what it printed."""
    return subprocess.run(
        [sys.executable, "-B", "-W", "error", *words],
        cwd=EXAMPLES,
        env={"METERKIT_DATA_DIR": str(data_dir)},
        input=stdin,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("framework", CLIENTS)
def test_the_api(framework, tmp_path):
    """200, 400 (or 422), 404 and 503, on every framework; only 200 counts, for the company that owns the key."""
    post = POSTS[framework].replace("PATH", "'/RetrieveCreditScore'").replace("TYPE", "'application/json'")
    script = CLIENTS[framework] + ASK.format(post=post, body=BODIES[framework])
    questions = json.dumps([(key, body) for key, body, _, _ in CASES])

    answers, used = json.loads(run("-c", script, data_dir=tmp_path, stdin=questions))

    assert [] == [(case, status) for case, (status, _) in zip(CASES, answers, strict=True) if status not in case[2]]
    assert [score for _, _, _, score in CASES] == [score for _, score in answers]
    assert [[None, 2], ["acme", 2], ["globex", 1]] == used


PAGES = """
import json
from base64 import b64encode
from pages_app import app, kit
client = app.test_client()
def get(path, user=None, password=None):
    encoded = b64encode(f"{user}:{password}".encode()).decode()
    answer = client.get(path, headers={} if user is None else {"Authorization": f"Basic {encoded}"})
    return answer.status_code, answer.text
for _ in range(3):
    client.post("/RetrieveCreditScore", json={"person": "ada"}, headers={"X-Api-Key": "key-of-acme"})
kit.flush()
acme, team = ("acme", "key-of-acme"), ("team", "open sesame")
statuses = {
    "nobody": [get("/login")[0], get("/billing/")[0], get("/billing/team")[0]],
    "acme": [get("/login", *acme)[0], get("/billing/", *acme)[0], get("/billing/team", *acme)[0]],
    "team": [get("/login", *team)[0], get("/billing/team", *team)[0], get("/billing/team/companies", *team)[0]],
    "pretender": [get("/billing/team", "acme", "open sesame")[0], get("/billing/", "acme", "key")[0]],
}
shown = [">3<" in get("/billing/", *acme)[1], "acme" in get("/billing/team/companies", *team)[1]]
kit.close()
print(json.dumps([statuses, shown]))
"""


@pytest.mark.long
def test_the_pages(tmp_path):
    """A customer sees its own, the team sees all, and nobody else anything."""
    statuses, shown = json.loads(run("-c", PAGES, data_dir=tmp_path))

    assert {"acme": [302, 200, 404], "team": [302, 200, 200]} == {name: statuses[name] for name in ("acme", "team")}
    assert 401 == statuses["nobody"][0]
    assert {401, 403, 404} >= {*statuses["nobody"], *statuses["pretender"]}
    assert [True, True] == shown


def test_the_job(tmp_path):
    """It prints scores, and counts those that it found."""
    out = run("batch_job.py", "acme", "ada", "a stranger", "nobody@home", "grace", data_dir=tmp_path)
    usage = run("-m", "meterkit", "usage", "billing:kit", "--json", data_dir=tmp_path)

    assert "ada: 810\na stranger: UnknownPersonError\nnobody@home: BureauDownError\ngrace: 790\n" == out
    assert {"credit_scores": {"quantity": 2, "reported": 0}} == json.loads(usage)["totals"]


@pytest.mark.parametrize("name", MODULES)
def test_an_example_says_what_it_needs(name):
    """What can be run says what it requires, how to install that and how to run it; all are in the list."""
    text = (EXAMPLES / name).read_text()
    listed = re.findall(r"^\| \[`(\w+\.py)`\]\(\1\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)

    assert name in listed
    if name not in ("billing.py", "bureau.py"):  # which the others import
        assert ["Requires", "To install", "To run", "Then"] == re.findall(r"^([A-Z][a-z ]+): {2,}", text, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("billing.py", "bureau.py")])
def test_the_commands_of_an_example_name_files_that_exist(name):
    """It is run by its own name, and its usage is shown by that of the kit's module."""
    _, _, commands = (EXAMPLES / name).read_text().split('"""')[1].partition("To run:")
    named = {f"{module}.py" for module in re.findall(r"\b(\w+)(?:\.py\b|:app\b|:kit\b)", commands)}

    assert {name, "billing.py"} == named
    assert set() == named - set(MODULES)
