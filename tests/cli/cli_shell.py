"""What a shell sees of a command: its exit code, stdout and stderr. Every warning is an error."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from warm import Warm

COMMAND = [sys.executable, "-W", "error", "-m", "meterkit"]


def meterkit(*words):
    """Run a command; return its exit code, stdout and stderr."""
    if {"PYTHONPATH", "PYTHONIOENCODING"} & set(os.environ):  # a Python of another kind, which has to begin at nothing
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr
    command = Warm(["-m", "meterkit", *words], env=dict(os.environ), cwd=Path.cwd())
    command.stdin.close()
    with command.stdout as stdout, command.stderr as stderr, ThreadPoolExecutor(1) as reader:
        err = reader.submit(stderr.read)
        out = stdout.read()
        return command.wait(), out.decode(), err.result().decode()


def data_of(*words):
    """Run a command with ``--json``, which prints nothing to stderr; return its exit code and data."""
    code, out, err = meterkit(*words, "--json")
    assert not err
    return code, json.loads(out)


def cells(out):
    """The rows of the tables in *out*, heads and all."""
    lines = [line for line in out.splitlines() if re.match("[┃│]", line)]
    return [[cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in lines]
