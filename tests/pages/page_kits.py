"""What the kits of these tests count, and whom they know."""

from __future__ import annotations

from typing import Any

from meterkit import Meter

CALLS = Meter("calls", path="/whole", status="*")


def whose(exchange: Any) -> str | None:
    return exchange.headers.get("x-company")  # type: ignore[no-any-return]


def is_staff(exchange: Any) -> bool:
    return exchange.headers.get("x-staff") == "yes"  # type: ignore[no-any-return]
