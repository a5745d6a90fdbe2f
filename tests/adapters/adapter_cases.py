"""Which stacks every run of the tests tries, and which are left to the long ones."""

from __future__ import annotations

from adapter_stacks import STACKS
from thorough import first

USUAL_FIRST = first([stack for stack in STACKS if stack.name in ("flask", "django-asgi", "fastapi")], among=STACKS)
