"""Values of dimensions in every stack: what views tell, and what functions find in the exchange."""

from __future__ import annotations

from collections.abc import Callable

from adapter_stacks import Stack

from meterkit import Meter, MeterKit


def test_views_and_functions_tell_values(stack: Stack, make_kit: Callable[..., MeterKit]) -> None:
    """
    The first of two calls of the view names a model, the other does not.
    """
    kit = make_kit(
        Meter("tokens", path="*", value="tokens", by=("model",)),
        Meter("calls", path="*", by={"path": lambda exchange: exchange.path, "method": lambda each: each.method}),
        Meter("bytes", path="*", value="response_bytes", by={"path": lambda exchange: exchange.path}),
    )
    app = stack.make(kit)
    for path in ("/named", "/stream", "/stream"):
        stack.call(app, path=path)
    kit.flush()

    def by(meter: str, *names: str) -> dict[tuple[str, ...], int]:
        return {tuple(row.values.values()): row.quantity for row in kit.usage(meter=meter, by=names)}

    assert {("small",): 40, ("",): 2} == by("tokens", "model")
    assert {("/named", "GET"): 1, ("/stream", "GET"): 2} == by("calls", "path", "method")
    assert 26 == by("bytes", "path")[("/stream",)]
