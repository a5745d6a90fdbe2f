from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapter_stacks import STACKS, Stack
from page_browser import Browser
from page_kits import CALLS, is_staff, whose
from thorough import first

from meterkit import Meter, MeterKit, Pages


@pytest.fixture(params=first(STACKS[:1], among=STACKS), ids=lambda stack: stack.name)
def stack(request: pytest.FixtureRequest) -> Stack:
    """Each of the seven, one after the other."""
    return request.param


@pytest.fixture
def make_kit(make_kit: Callable[..., MeterKit], tmp_path: Path) -> Callable[..., MeterKit]:
    """Makes kits with pages that know the company by a header."""

    def make(*meters: Meter, **options: Any) -> MeterKit:
        defaults: dict[str, Any] = {"identify": whose, "pages": Pages("/billing", team=is_staff), "customer_ids": False}
        return make_kit(*(meters or (CALLS,)), **{**defaults, **options})

    return make


@pytest.fixture
def open_page(make_kit: Callable[..., MeterKit]) -> Callable[..., Browser]:
    """Opens a browser of acme's at a kit, on one stack: for what is the same on all."""

    def opened(kit: MeterKit | None = None, company: str | None = "acme", stack: Stack = STACKS[0]) -> Browser:
        app = stack.make(make_kit() if kit is None else kit)
        return Browser(stack, app, {"X-Company": company} if company else {})

    return opened
