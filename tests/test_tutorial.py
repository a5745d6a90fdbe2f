"""The tutorial is true: whoever does what it says sees what it shows."""

from __future__ import annotations

import pytest
from tutorial_steps import Reader, commands, steps


@pytest.mark.long
def test_the_tutorial(tmp_path):
    """Each file is written, each command is run, and its output is the one that is shown."""
    with Reader(tmp_path) as reader:
        for step in steps():
            reader.do(step)


@pytest.mark.long
@pytest.mark.thorough
def test_the_tutorial_in_an_environment_of_its_own(tmp_path):
    """The same with what the page says to install, and nothing else."""
    with Reader(tmp_path, installs=True) as reader:
        for step in steps():
            reader.do(step)


def test_each_command_shows_its_output():
    """A reader can compare: what prints something is followed by it."""
    silent = ("mkdir", "cd", "python3 -m venv", ". ", "pip install -q", "export", "python month.py")

    assert [] == [
        command
        for step in steps()
        if step.kind == "console"
        for command, shown in commands(step)
        if not shown.strip() and not command.startswith(silent)
    ]
