"""The response to a request in which less was left than was to be held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.errors import MeterKitError

if TYPE_CHECKING:  # imported by the kits that have rules
    from meterkit.core.responses import Response
    from meterkit.governance.governor import Governor
    from meterkit.metering.exchange import Exchange
    from meterkit.metering.recorder import Recorder


def response_to(
    error: BaseException, exchange: Exchange | None, *, recorder: Recorder, governor: Governor | None
) -> Response | None:
    """
    Return the response to a request that has raised *error*, which then is not billed; None for any other error.

    Args:
        error: What the app has raised.
        exchange: Exchange of the request; None if none is open.
        recorder: Recorder of the kit.
        governor: Governor of the kit, or None.
    """
    if not isinstance(error, MeterKitError):
        return None
    from meterkit.governance.refusal import InsufficientBalanceError, Refusal

    if not isinstance(error, InsufficientBalanceError):
        return None
    if exchange is None or governor is None:
        response = Refusal().respond(error.block)
    else:
        response = governor.refuse(exchange, error.block)
    if exchange is not None:
        recorder.refuse(exchange)
    return response
