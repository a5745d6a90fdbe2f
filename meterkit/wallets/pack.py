"""`Pack`: an amount of a wallet that is for sale."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from meterkit.errors import ConfigurationError, UsageError
from meterkit.pricing.price import Money, money
from meterkit.pricing.stripe_price import minor
from meterkit.wallets.amounts import Amount, is_currency, millionths

WALLET_KEY, AMOUNT_KEY, DAYS_KEY = "meterkit_wallet", "meterkit_amount", "meterkit_expires_days"
"""Metadata keys of a pack's price in Stripe: what was promised to who pays it, whatever the code says by then."""


@dataclass(frozen=True)
class Pack:
    """
    An amount of a wallet that companies can buy.

    A paid invoice with its price grants it, once, whether it was bought in Checkout, is a price of a subscription, or
    was put on an invoice by hand.

    Attributes:
        name: Name that the buyer reads, such as ``1,000 credits``; unique in the wallet.
        amount: What is granted, in the wallet's unit or in whole currency.
        price: What it costs, in whole currency, more than 0.
        currency: Three-letter code of the currency of *price*.
        expires_days: Days after the payment at which the rest expires; None if it never does.
        lookup_key: Lookup key of its price in Stripe; None derives it from the wallet and all of the above.
    """

    name: str
    _: KW_ONLY
    amount: Amount
    price: Money
    currency: str = "usd"
    expires_days: int | None = None
    lookup_key: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or not self.name.isprintable():
            raise ConfigurationError(f"a pack's name must be a non-empty printable str, not {self.name!r:.120}")
        try:
            granted = millionths(self.amount, f"{self}: amount=")
        except UsageError as error:
            raise ConfigurationError(str(error)) from None
        object.__setattr__(self, "price", money(self.price, f"{self}: price="))
        if not granted or not self.price:
            raise ConfigurationError(f"{self}: amount= and price= must be more than 0; kit.grant() gives for nothing")
        if not isinstance(self.currency, str) or not is_currency(self.currency.upper()):
            raise ConfigurationError(
                f"{self}: currency= must be three letters such as 'usd', not {self.currency!r:.100}"
            )
        object.__setattr__(self, "currency", self.currency.lower())
        if self.expires_days is not None and (type(self.expires_days) is not int or self.expires_days < 1):
            raise ConfigurationError(
                f"{self}: expires_days= must be a positive number of days, not {self.expires_days!r:.100}"
            )
        if self.lookup_key is not None and not (isinstance(self.lookup_key, str) and 0 < len(self.lookup_key) <= 200):
            raise ConfigurationError(f"{self}: lookup_key= must be a str of 1 to 200 characters")

    def __str__(self) -> str:
        return f"Pack({self.name!r})"

    @property
    def micros(self) -> int:
        """What is granted, in millionths."""
        return millionths(self.amount, "amount=")


@dataclass(frozen=True, slots=True)
class Promise:
    """
    What is granted to who pays a price once.

    Attributes:
        wallet: Name of the wallet.
        micros: Amount, in millionths.
        expires_days: Days after the payment at which the rest expires, or None.
    """

    wallet: str
    micros: int
    expires_days: int | None


def key_of(wallet: str, pack: Pack) -> str:
    """
    Return the lookup key of a pack's price in Stripe.

    A pack that changes in the code has another one: the new price stands beside the old one, which keeps its promise.
    """
    if pack.lookup_key is not None:
        return pack.lookup_key
    cost = minor(pack.price, pack.currency)
    text = "\n".join(str(each) for each in (wallet, pack.micros, cost, pack.currency, pack.expires_days))
    return f"meterkit:pack:{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def promised_in(wallet: str, pack: Pack) -> dict[str, str]:
    """Return the metadata of a pack's price in Stripe."""
    days = {} if pack.expires_days is None else {DAYS_KEY: str(pack.expires_days)}
    return {WALLET_KEY: wallet, AMOUNT_KEY: str(pack.micros), **days}


def promise_of(
    lookup_key: str | None, metadata: Mapping[str, Any], packs: Mapping[str, tuple[str, Pack]]
) -> Promise | None:
    """
    Return what a price in Stripe promises; None if it is not that of a pack.

    Args:
        lookup_key: Lookup key of the price, or None.
        metadata: Metadata of the price.
        packs: Name of the wallet and pack, by lookup key.
    """
    wallet, amount, days = (str(metadata.get(name) or "") for name in (WALLET_KEY, AMOUNT_KEY, DAYS_KEY))
    if wallet and amount.isdecimal() and int(amount):
        return Promise(wallet, int(amount), int(days) if days.isdecimal() else None)
    if lookup_key is not None and lookup_key in packs:
        name, pack = packs[lookup_key]
        return Promise(name, pack.micros, pack.expires_days)
    return None
