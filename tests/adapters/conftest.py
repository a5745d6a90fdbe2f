from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapter_cases import USUAL_FIRST
from adapter_stacks import Stack
from adapter_usage import usage_of

from meterkit import Meter, MeterKit


@pytest.fixture(params=USUAL_FIRST, ids=lambda stack: stack.name)
def stack(request: pytest.FixtureRequest) -> Stack:
    """Each of the seven, one after the other."""
    return request.param


@pytest.fixture
def make_kit(make_kit: Callable[..., MeterKit], tmp_path: Path) -> Callable[..., MeterKit]:
    """Makes kits that do not share a directory, and for which acme pays."""
    number = iter(range(100))

    def make(*meters: Meter, **options: Any) -> MeterKit:
        defaults = {"identify": lambda exchange: "acme", "data_dir": tmp_path / f"kit-{next(number)}"}
        return make_kit(*meters, **{**defaults, **options})

    return make


@pytest.fixture
def kit(make_kit: Callable[..., MeterKit]) -> MeterKit:
    """Counts what succeeded, what broke, and the bytes of both."""
    return make_kit(
        Meter("succeeded", path="*"),
        Meter("broke", path="*", status="5xx"),
        Meter("other", path="*", status=["1xx", "3xx", "4xx"]),
        Meter("bytes", path="*", status="*", value="response_bytes"),
    )


@pytest.fixture
def counted(kit: MeterKit) -> Callable[[], dict[str, int]]:
    """What `kit` has counted so far, by meter."""
    return lambda: usage_of(kit)
