"""`Wallet`: what companies pay for ahead, and what each unit of a meter takes of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from meterkit.core.usage_key import WALLET
from meterkit.core.validation import MAX_EVENT_NAME_LENGTH
from meterkit.errors import ConfigurationError, UsageError
from meterkit.metering.meter import Meter
from meterkit.wallets.amounts import Amount, is_currency, millionths
from meterkit.wallets.pack import Pack, key_of

MAX_UNIT_LENGTH = 40
"""Characters of the name of a unit."""


def held_as(wallet: str) -> str:
    """Return the name under which processes hold parts of a balance of *wallet*, which no meter has."""
    return f"{WALLET}{wallet}"


@dataclass(frozen=True)
class Wallet:
    """
    A prepaid balance that each company can have.

    Declare it with `MeterKit(wallets=[...])`. Usage of its meters, which have ``billable=False``, spends the balance;
    a request that the balance does not cover is blocked. Amounts are a str, `Decimal` or int with at most 6 decimals;
    a float is refused, because it is not exact.

    Attributes:
        name: Name of the wallet, unique among the kit's wallets and meters, at most 100 characters.
        unit: What is granted and spent, such as ``credits``; None with *currency*.
        currency: Three-letter code of the currency that is granted and spent, such as ``usd``; None with *unit*.
        spends: What one unit of each meter takes, in the wallet's unit or in whole currency, by meter or its name.
        packs: Amounts that companies can buy.
        rates: The same as *spends*, as ints in millionths by the meter's name.
    """

    name: str
    _: KW_ONLY
    unit: str | None = None
    currency: str | None = None
    spends: Mapping[Meter | str, Amount]
    packs: Iterable[Pack] = ()
    rates: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or not self.name.isprintable():
            raise ConfigurationError(f"a wallet's name must be a non-empty printable str, not {self.name!r:.120}")
        if len(self.name) > MAX_EVENT_NAME_LENGTH:
            raise ConfigurationError(
                f"{self.name[:40]!r}...: a wallet's name has at most {MAX_EVENT_NAME_LENGTH} characters"
            )
        if (self.unit is None) is (self.currency is None):
            raise ConfigurationError(f"{self}: say what it holds, with either unit='credits' or currency='usd'")
        object.__setattr__(self, "currency", _checked_currency(self.currency, self))
        _check_unit(self.unit, self)
        object.__setattr__(self, "rates", _checked_rates(self.spends, self))
        object.__setattr__(self, "packs", _checked_packs(self.packs, self))

    def __str__(self) -> str:
        return f"Wallet({self.name!r})"

    @property
    def of(self) -> str:
        """The unit, or the code of the currency in capitals, as the ledger and pages name it."""
        return self.unit or str(self.currency).upper()


def checked_wallets(wallets: Any, meters: Mapping[str, Meter], *, rated: Collection[str]) -> dict[str, Wallet]:
    """
    Return *wallets* by name.

    Args:
        wallets: What the application gave as ``wallets=``.
        meters: Meters of the kit, by name.
        rated: Names of the meters that are priced by their values, and of the meters of their amounts.

    Raises:
        ConfigurationError: Something is not a wallet; two have one name, or the name of a meter; or a meter is not in
            the kit, or is spent from two wallets.
    """
    if isinstance(wallets, Wallet) or not isinstance(wallets, Iterable):
        raise ConfigurationError(f"wallets= must be a list of Wallet; {wallets!r:.200} is not a list")
    by_name: dict[str, Wallet] = {}
    spent_from: dict[str, Wallet] = {}
    for wallet in wallets:
        if not isinstance(wallet, Wallet):
            raise ConfigurationError(f"wallets= must be a list of Wallet; {wallet!r:.200} is not a Wallet")
        if wallet.name in by_name:
            raise ConfigurationError(f"there are two wallets named {wallet.name!r}; rename one of them")
        if wallet.name in meters:
            raise ConfigurationError(f"{wallet} has the name of a meter; rename one of them")
        by_name[wallet.name] = wallet
        for key, name in zip(wallet.spends, wallet.rates, strict=True):
            if name not in meters or (isinstance(key, Meter) and meters[name] != key):
                raise ConfigurationError(f"{wallet} is spent by Meter({name!r}), which is not in meters=; add it there")
            if name in spent_from:
                raise ConfigurationError(
                    f"Meter({name!r}) is spent from {spent_from[name]} and {wallet}; a meter has at most one wallet"
                )
            _check_not_billed(wallet, meters[name], rated)
            spent_from[name] = wallet
    return by_name


def _check_not_billed(wallet: Wallet, meter: Meter, rated: Collection[str]) -> None:
    if meter.name in rated:
        raise ConfigurationError(
            f"{wallet} is spent by Meter({meter.name!r}), whose usage is billed by a Price.by; a wallet takes the same "
            "for each unit of a meter: declare a meter for each rate, with billable=False and without a price"
        )
    if meter.billable:
        raise ConfigurationError(
            f"{wallet} is spent by Meter({meter.name!r}), which would be reported to Stripe as well, and paid twice: "
            "add billable=False to the meter"
        )


def packs_of(wallets: Mapping[str, Wallet]) -> dict[str, tuple[str, Pack]]:
    """Return the name of the wallet and the pack, by the lookup key of its price in Stripe."""
    return {key_of(name, pack): (name, pack) for name, wallet in wallets.items() for pack in wallet.packs}


MOST_PACKS = 1_000
"""Number of one pack that can be bought at once."""


def pack_named(pack: Any, wallets: Mapping[str, Wallet]) -> str:
    """
    Return the lookup key of the price of *pack*, a `Pack` of one of *wallets* or its name.

    Raises:
        UsageError: There is none, or several wallets have one of that name.
    """
    found = [key for key, (_, each) in packs_of(wallets).items() if pack in (each, each.name)]
    if len(found) != 1:
        names = ", ".join(repr(each.name) for _, each in packs_of(wallets).values()) or "none"
        many = "several wallets have a pack" if found else "no wallet of this kit has a pack"
        raise UsageError(f"{many} {pack!r:.120}: the packs are {names}", reason="offer_wrong")
    return found[0]


def checked_number(quantity: Any) -> int:
    """
    Return *quantity*, a number of packs.

    Raises:
        UsageError: It is none.
    """
    if type(quantity) is not int or not 1 <= quantity <= MOST_PACKS:
        raise UsageError(
            f"quantity= must be an int from 1 to {MOST_PACKS:,}, not {quantity!r:.100}", reason="offer_wrong"
        )
    return quantity


def wallet_named(wallet: Any, wallets: Mapping[str, Wallet]) -> Wallet:
    """
    Return the one of *wallets* that *wallet*, a `Wallet` or its name, stands for.

    Raises:
        UsageError: There is none.
    """
    name = wallet.name if isinstance(wallet, Wallet) else wallet
    if not isinstance(name, str) or name not in wallets:
        known = f"only {', '.join(wallets)}" if wallets else "as it has no wallets="
        raise UsageError(f"this kit has no wallet {name!r:.120}, {known}", reason="wallet_unknown")
    return wallets[name]


def _checked_currency(currency: Any, wallet: Wallet) -> str | None:
    if currency is None:
        return None
    if not isinstance(currency, str) or not is_currency(currency.upper()):
        raise ConfigurationError(f"{wallet}: currency= must be three letters such as 'usd', not {currency!r:.100}")
    return currency.lower()


def _check_unit(unit: Any, wallet: Wallet) -> None:
    if unit is None:
        return
    if not isinstance(unit, str) or not unit.strip() or not unit.isprintable() or len(unit) > MAX_UNIT_LENGTH:
        raise ConfigurationError(
            f"{wallet}: unit= must be a word such as 'credits', of at most {MAX_UNIT_LENGTH} characters, not "
            f"{unit!r:.100}"
        )
    if is_currency(unit):
        raise ConfigurationError(
            f"{wallet}: unit={unit!r} looks like a currency: write currency={unit.lower()!r}, or the unit in small "
            "letters"
        )


def _checked_rates(spends: Any, wallet: Wallet) -> dict[str, int]:
    if not isinstance(spends, Mapping) or not spends:
        raise ConfigurationError(
            f"{wallet}: spends= must say what one unit of each meter takes, such as {{tokens: '0.002'}}, not "
            f"{spends!r:.200}"
        )
    rates: dict[str, int] = {}
    for key, given in spends.items():
        name = key.name if isinstance(key, Meter) else key
        if not isinstance(name, str):
            raise ConfigurationError(f"{wallet}: the keys of spends= must be meters or their names, not {key!r:.100}")
        if name in rates:
            raise ConfigurationError(f"{wallet}: spends= has Meter({name!r}) twice")
        rates[name] = _configured(given, f"{wallet}: spends=, the rate of {name!r}")
        if not rates[name]:
            raise ConfigurationError(f"{wallet}: the rate of {name!r} must be more than 0")
    return rates


def _checked_packs(packs: Any, wallet: Wallet) -> tuple[Pack, ...]:
    if isinstance(packs, Pack) or not isinstance(packs, Iterable):
        raise ConfigurationError(f"{wallet}: packs= must be a list of Pack; {packs!r:.200} is not a list")
    found = tuple(packs)
    for pack in found:
        if not isinstance(pack, Pack):
            raise ConfigurationError(f"{wallet}: packs= must be a list of Pack; {pack!r:.200} is not a Pack")
    for name in ({pack.name for pack in found}, {key_of(wallet.name, pack) for pack in found}):
        if len(name) < len(found):
            raise ConfigurationError(f"{wallet}: two packs have one name, or the same lookup key; change one of them")
    return found


def _configured(given: Any, name: str) -> int:
    try:
        return millionths(given, name)
    except UsageError as error:
        raise ConfigurationError(str(error)) from None
