"""
Settings of a kit, validated while it is built.

Each check answers its argument in the form that the kit uses, or raises a `ConfigurationError` with the cure.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from meterkit.errors import ConfigurationError
from meterkit.metering.meter import Meter
from meterkit.pricing.price import Price
from meterkit.webhooks.config import Webhook

FindCustomer: TypeAlias = "Callable[[str], str | None]"
"""From a company's id to its Stripe customer's."""


FEWEST_DAYS = 70
"""Stripe takes usage of the last 35 days; and the month before this one is still reconciled and disputed."""


@dataclass(frozen=True)
class Settings:
    """
    What a kit was configured with.

    Attributes:
        data_dir: For the journal and, by default, the ledger.
        ledger: SQLAlchemy's URL.
        stripe_key: None counts and keeps, and reports nothing.
        stripe_base: None for the real Stripe.
        flush_interval: Seconds.
        report_interval: Seconds.
        report_via: ``v1`` or ``stream``.
        late: ``report`` or ``next_invoice``.
        keep_days: For how long settled usage is kept; None keeps it for ever.
        clock: Unix time in seconds.
        webhook: Where Stripe's webhooks come in; None where they do not.
        metadata_key: Under which the metadata of Stripe's customers name the company.
        find_customer: Whom to ask who pays for a company that nobody has linked.
    """

    data_dir: Path
    ledger: str = field(repr=False)  # may hold a password, and locals end up in error reports
    stripe_key: str | None = field(repr=False)
    stripe_base: str | None
    flush_interval: float
    report_interval: float
    report_via: str
    late: str
    keep_days: int | None
    clock: Callable[[], float]
    webhook: Webhook | None
    metadata_key: str
    find_customer: FindCustomer | None


def key_of(settings: Settings) -> str:
    """
    Stripe's key.

    Raises:
        ConfigurationError: There is none.
    """
    if settings.stripe_key is None:
        raise ConfigurationError("there is no stripe_key= and no STRIPE_SECRET_KEY: Stripe cannot be asked")
    return settings.stripe_key


def is_live(key: str | None) -> bool | None:
    """Whether a key of Stripe's is about real money; None if it does not tell."""
    if key is None or not key.startswith(("sk_", "rk_")):
        return None
    return key[3:].startswith("live_")


def settings_of(
    *,
    data_dir: Any,
    ledger: Any,
    stripe_key: Any,
    stripe_base: Any,
    flush_interval: Any,
    report_interval: Any,
    report_via: Any,
    late: Any,
    keep_days: Any,
    clock: Callable[[], float],
    webhook: Webhook | None,
    metadata_key: Any,
    find_customer: Any,
) -> Settings:
    """The settings; what is not given comes from the environment, where an empty variable counts as none."""
    directory = checked_directory(data_dir or os.environ.get("METERKIT_DATA_DIR") or ".meterkit")
    return Settings(
        data_dir=directory,
        ledger=checked_ledger(ledger or os.environ.get("METERKIT_LEDGER") or f"sqlite:///{directory}/ledger.sqlite"),
        stripe_key=checked_key(stripe_key or os.environ.get("STRIPE_SECRET_KEY") or None),
        stripe_base=checked_base(stripe_base or os.environ.get("METERKIT_STRIPE_BASE") or None),
        flush_interval=positive(flush_interval, "flush_interval"),
        report_interval=positive(report_interval, "report_interval"),
        report_via=checked_word(report_via, "report_via", ("v1", "stream")),
        late=checked_word(late, "late", ("report", "next_invoice")),
        keep_days=checked_days(keep_days),
        clock=clock,
        webhook=webhook,
        metadata_key=checked_metadata_key(metadata_key),
        find_customer=checked_finder(find_customer),
    )


def checked_meters(meters: Any) -> dict[str, Meter]:
    """The meters by name, each with a name and an event name of its own."""
    if isinstance(meters, Meter) or not isinstance(meters, Iterable):
        raise ConfigurationError(f"meters= is a list of Meter, not {meters!r}")
    by_name: dict[str, Meter] = {}
    event_names: dict[str, Meter] = {}
    for meter in meters:
        if not isinstance(meter, Meter):
            raise ConfigurationError(f"meters= is a list of Meter; {meter!r} is none")
        if meter.name in by_name:
            raise ConfigurationError(f"there are two meters named {meter.name!r}; rename one of them")
        if meter.event_name in event_names:
            raise ConfigurationError(
                f"{event_names[meter.event_name]} and {meter} have the same event_name {meter.event_name!r}, "
                "so Stripe would add them up; give one of them another event_name="
            )
        by_name[meter.name] = event_names[meter.event_name] = meter
    if not by_name:
        raise ConfigurationError("meters= is empty, so nothing would be counted; give at least one Meter")
    return by_name


def checked_prices(prices: Any, meters: dict[str, Meter]) -> tuple[Price, ...]:
    """The prices, each for one of *meters*."""
    if isinstance(prices, Price) or not isinstance(prices, Iterable):
        raise ConfigurationError(f"prices= is a list of Price, not {prices!r}")
    found: list[Price] = []
    for price in prices:
        if not isinstance(price, Price):
            raise ConfigurationError(f"prices= is a list of Price; {price!r} is none")
        if meters.get(price.meter.name) != price.meter:
            raise ConfigurationError(f"there is a price for {price.meter}, which is not in meters=; add it there")
        found.append(price)
    return tuple(found)


def check_identify(identify: Any) -> None:
    """See that *identify* can be called when the response is complete."""
    if identify is None:
        return
    if not callable(identify):
        raise ConfigurationError(f"identify= is a function that takes an Exchange, not {identify!r}")
    if inspect.iscoroutinefunction(identify):
        raise ConfigurationError(
            "identify= is an async function, and is called after the response; make it a plain one, or call "
            "meterkit.identify() in the view"
        )


def checked_finder(find_customer: Any) -> FindCustomer | None:
    """Something that a thread of ours can call."""
    if find_customer is None:
        return None
    if not callable(find_customer) or inspect.iscoroutinefunction(find_customer):
        raise ConfigurationError(
            f"find_customer= is a plain function that takes a company's id and answers 'cus_...' or None, not "
            f"{find_customer!r:.200}"
        )
    return find_customer  # type: ignore[no-any-return]


def checked_metadata_key(key: Any) -> str:
    """A key as Stripe takes it: 1 to 40 characters, without square brackets."""
    if not isinstance(key, str) or not 0 < len(key) <= 40 or set(key) & set("[]"):
        raise ConfigurationError(f"metadata_key= is a key of Stripe's metadata such as 'company', not {key!r:.100}")
    return key


def checked_clock(clock: Any) -> Callable[[], float]:
    """Something that can be asked."""
    if not callable(clock):
        raise ConfigurationError(f"clock= is a function that answers unix seconds, such as time.time, not {clock!r}")
    return clock  # type: ignore[no-any-return]


def checked_directory(path: Any) -> Path:
    """An absolute path, so that it stays the same when the process changes its working directory."""
    try:
        directory = Path(path).absolute()
    except TypeError:
        raise ConfigurationError(f"data_dir= is a path such as '/var/lib/billing', not {path!r}") from None
    if "?" in str(directory) or "%" in str(directory):  # they mean something in the ledger's URL
        raise ConfigurationError(f"data_dir= is a path without '?' and '%', not {str(directory)!r}; choose another")
    return directory


def checked_key(key: Any) -> str | None:
    """A key that can be used on the server side."""
    if key is None:
        return None
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("stripe_key= is a str such as 'sk_live_...', with no spaces or line breaks in it")
    if key.startswith(("pk_", "whsec_")):
        raise ConfigurationError(
            f"stripe_key= begins with {key[:3]!r}: that is a publishable key or a webhook secret. Take the secret key, "
            "sk_..., or a restricted one, rk_..."
        )
    return key


def checked_word(word: Any, what: str, words: tuple[str, str]) -> str:
    """One of two; *what* names the argument."""
    if word not in words:
        raise ConfigurationError(f"{what}= is {words[0]!r} or {words[1]!r}, not {word!r:.100}")
    return str(word)


def checked_days(days: Any) -> int | None:
    """Enough of them, or None for all."""
    if days is None or (type(days) is int and days >= FEWEST_DAYS):
        return days
    raise ConfigurationError(
        f"keep_days= is a whole number of days, {FEWEST_DAYS} at least, or None to keep all usage, not {days!r:.100}"
    )


def checked_base(base: Any) -> str | None:
    """An address with its scheme."""
    if base is None:
        return None
    if not isinstance(base, str) or not base.startswith(("http://", "https://")):
        raise ConfigurationError(f"stripe_base= is an address such as 'http://127.0.0.1:12111', not {base!r}")
    return base


def checked_ledger(url: Any) -> str:
    """The URL of a database that the ledger can be kept in."""
    if not isinstance(url, str) or not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        shown = str(url).split("@")[-1]  # what stands before it may be a password
        raise ConfigurationError(f"ledger= is 'sqlite:///path' or 'postgresql+psycopg://...', not {shown!r}")
    path, _, options = url.removeprefix("sqlite:///").partition("?")
    if path in ("", ":memory:") or "mode=memory" in options:
        raise ConfigurationError("ledger= is a file, because usage in memory would not outlive the process")
    return url


def positive(seconds: Any, what: str) -> float:
    """A number of seconds over 0, a week at most; *what* names the argument."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 7 * 24 * 3600:
        raise ConfigurationError(f"{what}= is a positive number of seconds, a week at most, not {seconds!r}")
    return float(seconds)
