"""`held`: each call of a function works under a hold of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import aclosing
from functools import wraps
from typing import Any, TypeAlias

from meterkit.errors import ConfigurationError
from meterkit.holds.hold import Hold
from meterkit.wallets.amounts import Amount

Make: TypeAlias = "Callable[[Any, Amount | None], Hold]"
Estimate: TypeAlias = "Amount | Callable[..., Amount | None] | None"

PASSED_AS = "hold"
"""Name of the argument in which a decorated function gets its hold."""


def held(  # noqa: C901 - one function of each kind
    function: Callable[..., Any], make: Make, *, company: str, estimate: Estimate
) -> Callable[..., Any]:
    """
    Return *function* under a hold, which it gets as its argument ``hold``: plain, async, or a generator of either kind.

    Args:
        function: Function to decorate.
        make: Function that makes a hold of a company and an estimate.
        company: Name of the argument with the company.
        estimate: Units to hold; or a function that takes the arguments of *function* and returns them.

    Raises:
        ConfigurationError: *function* takes no such arguments.
    """
    signature = inspect.signature(function)
    for name in (company, PASSED_AS):
        if name not in signature.parameters:
            raise ConfigurationError(
                f"held(): {getattr(function, '__name__', function)!s:.100}() takes no argument {name!r:.100}; it needs "
                f"{PASSED_AS!r} for the hold, and the one that company= names"
            )
    own = [each for each in signature.parameters.values() if each.name != PASSED_AS]
    outside = signature.replace(parameters=own)

    def begun(args: Any, named: Any) -> tuple[Hold, Callable[[], Any]]:
        """Return the hold for a call, and the call."""
        bound = outside.bind(*args, **named)
        bound.apply_defaults()
        units = estimate(*bound.args, **bound.kwargs) if callable(estimate) else estimate
        hold = make(bound.arguments[company], units)
        return hold, lambda: function(*bound.args, **bound.kwargs, **{PASSED_AS: hold})

    if inspect.isasyncgenfunction(function):

        @wraps(function)
        async def decorated(*args: Any, **named: Any) -> Any:
            hold, call = begun(args, named)
            async with hold, aclosing(call()) as made:  # whatever its `finally` settles comes before the release
                async for each in made:
                    yield each

    elif inspect.iscoroutinefunction(function):

        @wraps(function)
        async def decorated(*args: Any, **named: Any) -> Any:
            hold, call = begun(args, named)
            async with hold:
                return await call()

    elif inspect.isgeneratorfunction(function):

        @wraps(function)
        def decorated(*args: Any, **named: Any) -> Any:
            hold, call = begun(args, named)
            with hold:
                return (yield from call())

    else:

        @wraps(function)
        def decorated(*args: Any, **named: Any) -> Any:
            hold, call = begun(args, named)
            with hold:
                return call()

    decorated.__signature__ = outside  # type: ignore[attr-defined]  # what Celery and FastAPI look at
    return decorated
