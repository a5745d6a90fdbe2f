"""Isolation of kits in tests, for test runners other than pytest. Under pytest, `meterkit.pytest_plugin` does this."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from meterkit.runtime import isolation

if TYPE_CHECKING:
    from meterkit.sandbox import Sandbox

__all__ = ["isolated"]


@contextmanager
def isolated(*, stripe: Sandbox | None = None) -> Iterator[None]:
    """
    Give every kit of this process an empty journal and ledger; undo it at the end of the ``with`` block.

    Kits that exist and kits that are built meanwhile are both isolated, except those whose ``data_dir=`` is in the
    system's temporary directory and outside of the working directory. A live Stripe key is refused meanwhile.

    Args:
        stripe: Running sandbox that plays the Stripe account of these kits; by default each keeps its own key.
    """
    account = nullcontext() if stripe is None else isolation.own_account(stripe.api_key, stripe.url)
    with isolation.own_directories(), account:
        yield
