"""
Settings of a kit, validated while it is built.

Each check returns its argument in the form that the kit uses, or raises a `ConfigurationError` that says how to correct
it.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from meterkit.core import live_key
from meterkit.core.problems import log_event
from meterkit.core.windows import HOUR
from meterkit.errors import ConfigurationError
from meterkit.jetstream.config import JetStream, checked_jetstream
from meterkit.metering.meter import CUSTOMER_KEY, VALUE_KEY, Meter
from meterkit.pricing.price import Price
from meterkit.pricing.rates.table import RateTable
from meterkit.project_settings import project_setting
from meterkit.wallets.wallet import Wallet
from meterkit.webhooks.config import Webhook, secrets_of

FindCustomer: TypeAlias = "Callable[[str], str | None]"
"""Function that takes a company id, and returns the id of its Stripe customer or None."""


FEWEST_DAYS = 70
"""Fewest days of usage to keep: Stripe accepts usage of 35 days, and last month is still reconciled and disputed."""


@dataclass(frozen=True)
class Settings:
    """
    The checked settings of a kit.

    Attributes:
        data_dir: Directory of the journal and, by default, of the ledger.
        ledger: SQLAlchemy URL of the ledger.
        stripe_key: Stripe's secret key; None to count and keep usage without reporting it.
        stripe_base: Base URL of Stripe's API; None for the real one.
        stripe_account: Connected account that the kit bills for; None for the key's own.
        flush_interval: Seconds between two flushes.
        report_interval: Seconds between two reports.
        report_via: How meter events are sent: ``v1`` or ``stream``.
        report_on_close: Whether closing the kit also reports the open hour.
        late: How late usage is billed: ``report`` or ``next_invoice``.
        keep_days: Days for which settled usage is kept; None keeps it for ever.
        clock: Function that returns Unix seconds.
        webhook: Webhook configuration, or None.
        metadata_key: Key under which a Stripe customer's metadata contain the company id.
        find_customer: Function that returns the Stripe customer of an unlinked company, or None.
        customer_ids: Whether a company id that is a Stripe customer id pays for itself.
        payload_keys: Keys of the customer and of the quantity in meter events, by event name, where they are not
            Stripe's own.
        is_free: Function that returns whether the usage of a company is free by a rule of the kit, so that it is not
            named as unbilled; None if nobody's is.
        jetstream: Where hosts publish what they have counted, or None if they fold it into the ledger themselves.
        is_relative: Whether `data_dir` was given as a path that depends on the working directory.
        flusher: Where this host's usage is flushed: ``process``, in one of its own, or ``thread``, in one of a worker.
        flusher_is_default: Whether nobody chose that, so that it is a thread where a process may be wrong.
        shadow_until: Unix second until which another program bills: 0.0 if none does, infinity if one does for now.
        wallets: Wallets by name.
        rates: Tables of the kit's ``Price.by(...)``, by the name of the meter whose usage they rate.
    """

    data_dir: Path
    ledger: str = field(repr=False)  # may hold a password, and locals end up in error reports
    stripe_key: str | None = field(repr=False)
    stripe_base: str | None
    stripe_account: str | None
    flush_interval: float
    report_interval: float
    report_via: str
    report_on_close: bool
    late: str
    keep_days: int | None
    clock: Callable[[], float]
    webhook: Webhook | None
    metadata_key: str
    find_customer: FindCustomer | None
    customer_ids: bool
    payload_keys: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    is_free: Callable[[str], bool] | None = None
    jetstream: JetStream | None = None
    is_relative: bool = False
    flusher: str = "process"
    flusher_is_default: bool = True
    shadow_until: float = 0.0
    wallets: Mapping[str, Wallet] = field(default_factory=dict)
    rates: Mapping[str, RateTable] = field(default_factory=dict)

    def is_shadow(self) -> bool:
        """Return whether the kit is in shadow mode now: nothing is written to Stripe, and nobody is blocked or told."""
        return self.shadow_until > 0 and self.clock() < self.shadow_until

    @property
    def has_default_ledger(self) -> bool:
        """Whether the ledger is the SQLite file in `data_dir`."""
        return self.ledger == _default_ledger(self.data_dir)


def _default_ledger(directory: Path) -> str:
    return f"sqlite:///{directory}/ledger.sqlite"


def key_of(settings: Settings) -> str:
    """
    Return Stripe's secret key.

    Raises:
        ConfigurationError: There is none; or it is live, and this is a test run.
    """
    if settings.stripe_key is None:
        raise ConfigurationError("no Stripe key: set STRIPE_SECRET_KEY or pass stripe_key=")
    if live_key.refuses(settings.stripe_key):
        raise ConfigurationError(live_key.LIVE_REFUSED)
    return settings.stripe_key


def is_live(key: str | None) -> bool | None:
    """Return whether a Stripe key is for live mode; None if that is unknown."""
    if key is None or not key.startswith(("sk_", "rk_")) or key.startswith("sk_org_"):  # an organization's key
        return None
    return key[3:].startswith("live_")


def settings_of(
    *,
    data_dir: Any,
    ledger: Any,
    stripe_key: Any,
    stripe_base: Any,
    stripe_account: Any,
    flush_interval: Any,
    report_interval: Any,
    report_via: Any,
    report_on_close: Any,
    late: Any,
    keep_days: Any,
    clock: Callable[[], float],
    webhook: Webhook | None,
    metadata_key: Any,
    find_customer: Any,
    customer_ids: Any,
    flusher: Any,
    shadow: Any,
    meters: Iterable[Meter],
    is_free: Callable[[str], bool] | None,
    jetstream: Any,
    wallets: Mapping[str, Wallet],
    rates: Mapping[str, RateTable],
) -> Settings:
    """
    Return the checked settings.

    Defaults come from ``METERKIT`` in a Django project's settings, and then from the environment; what is empty there
    counts as unset.

    Raises:
        ConfigurationError: A setting is wrong; the message says how to correct it.
    """
    key = checked_key(stripe_key or project_setting("STRIPE_KEY") or os.environ.get("STRIPE_SECRET_KEY") or None)
    given = data_dir or project_setting("DATA_DIR") or os.environ.get("METERKIT_DATA_DIR") or ".meterkit"
    directory = checked_directory(given)
    flusher = flusher or os.environ.get("METERKIT_FLUSHER")
    url = ledger or project_setting("LEDGER") or os.environ.get("METERKIT_LEDGER") or _default_ledger(directory)
    base = stripe_base or project_setting("STRIPE_BASE") or os.environ.get("METERKIT_STRIPE_BASE") or None
    return Settings(
        data_dir=directory,
        ledger=checked_ledger(url, directory),
        stripe_key=key,
        stripe_base=checked_base(base, key),
        stripe_account=checked_account(stripe_account),
        flush_interval=positive(flush_interval, "flush_interval"),
        report_interval=positive(report_interval, "report_interval"),
        report_via=checked_word(report_via, "report_via", ("v1", "stream")),
        report_on_close=checked_flag(report_on_close, "report_on_close"),
        late=checked_word(late, "late", ("report", "next_invoice")),
        keep_days=checked_days(keep_days),
        clock=clock,
        webhook=webhook,
        metadata_key=checked_metadata_key(metadata_key),
        find_customer=checked_finder(find_customer),
        customer_ids=checked_switch(customer_ids, "customer_ids"),
        payload_keys={
            meter.event_name: (meter.customer_key, meter.value_key)
            for meter in meters
            if meter.billable and (meter.customer_key, meter.value_key) != (CUSTOMER_KEY, VALUE_KEY)
        },
        is_free=is_free,
        jetstream=checked_jetstream(jetstream),
        is_relative=not Path(given).is_absolute(),
        flusher=checked_word(flusher or "process", "flusher", ("process", "thread")),
        flusher_is_default=not flusher,
        shadow_until=checked_shadow(shadow),
        wallets=wallets,
        rates=rates,
    )


def without_effect(given: Mapping[str, Any], settings: Settings, webhook: Webhook | None) -> tuple[str, str] | None:
    """
    Return a key of the project's settings *given* that a kit was built without, and the argument that it stands for.

    Args:
        given: What the project says, by the keys of `meterkit.project_settings`.
        settings: Settings of the kit.
        webhook: Webhook configuration of the kit, or None.

    Returns:
        None if all had an effect.
    """
    took: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "DATA_DIR": ("data_dir=", lambda path: checked_directory(path) == settings.data_dir),
        "LEDGER": ("ledger=", lambda url: checked_ledger(url, settings.data_dir) == settings.ledger),
        "STRIPE_KEY": ("stripe_key=", lambda key: key == settings.stripe_key),
        "STRIPE_BASE": ("stripe_base=", lambda base: base == settings.stripe_base),
        "WEBHOOK_SECRET": ("Webhook(secret=...)", lambda one: webhook is None or secrets_of(one) == webhook.secrets),
    }
    missed = ((key, argument) for key, (argument, is_so) in took.items() if given.get(key) and not is_so(given[key]))
    return next(missed, None)


def checked_meters(meters: Any) -> dict[str, Meter]:
    """Return the meters by name; names and event names must be unique."""
    if isinstance(meters, Meter) or not isinstance(meters, Iterable):
        raise ConfigurationError(f"meters= must be a list of Meter; {meters!r} is not a list")
    by_name: dict[str, Meter] = {}
    event_names: dict[str, Meter] = {}
    for meter in meters:
        if not isinstance(meter, Meter):
            raise ConfigurationError(f"meters= must be a list of Meter; {meter!r} is not a Meter")
        if meter.name in by_name:
            raise ConfigurationError(f"there are two meters named {meter.name!r}; rename one of them")
        if meter.billable and meter.event_name in event_names:
            raise ConfigurationError(
                f"{event_names[meter.event_name]} and {meter} have the same event_name {meter.event_name!r}, "
                "so Stripe would add up their usage; give one of them another event_name="
            )
        by_name[meter.name] = event_names[meter.event_name] = meter
    if not by_name:
        raise ConfigurationError("meters= is empty, so nothing would be counted; add at least one Meter")
    _warn_of_unfiltered(by_name.values())
    return by_name


def _warn_of_unfiltered(meters: Iterable[Meter]) -> None:
    unfiltered = unfiltered_of(meters)
    if unfiltered:
        log_event("meter_unfiltered", f"{' and '.join(map(str, unfiltered))}: {UNFILTERED}")


UNFILTERED = (
    "without path=, route=, method=, when= or value=, every successful exchange counts, log-in pages and health checks "
    'included. If it is for kit.record() only, add http=False; if every exchange is meant, add path="*"'
)
"""What a meter without filters does, and the cure."""


def unfiltered_of(meters: Iterable[Meter]) -> list[Meter]:
    """Return meters that count every exchange beside meters that do not: they may be meant for ``kit.record()``."""
    unfiltered: list[Meter] = []
    filtered: list[Meter] = []
    for meter in meters:
        if meter.http:
            filters = (meter.path, meter.route, meter.method, meter.tool, meter.when, meter.value)
            (unfiltered if all(each is None for each in filters) else filtered).append(meter)
    return unfiltered if filtered else []


def checked_prices(prices: Any, meters: dict[str, Meter]) -> tuple[Price, ...]:
    """Return the prices; each must be for one of *meters*."""
    if isinstance(prices, Price) or not isinstance(prices, Iterable):
        raise ConfigurationError(f"prices= must be a list of Price; {prices!r} is not a list")
    found: list[Price] = []
    for price in prices:
        if not isinstance(price, Price):
            raise ConfigurationError(f"prices= must be a list of Price; {price!r} is not a Price")
        if meters.get(price.meter.name) != price.meter:
            raise ConfigurationError(f"there is a Price for {price.meter}, which is not in meters=; add it there")
        if not price.meter.billable:
            raise ConfigurationError(
                f"there is a Price for {price.meter}, which is never reported to Stripe: remove the price, or "
                "billable=False"
            )
        found.append(price)
    return tuple(found)


def check_identify(
    identify: Any,
    *,
    governance: Any = None,
    limits: bool = False,
    wallets: bool = False,
    customer_page: Any = None,
) -> None:
    """Check that *identify* is a function, plain or async; or is None, if nothing needs it before the app runs."""
    if identify == "view":
        if customer_page is not None:
            raise ConfigurationError(
                "customer_page= is shown without a view, so identify='view' cannot say whose it is: give identify= a "
                "function"
            )
        return
    if identify is None:
        needs = {
            "governance=": governance is not None,
            "Plan(limits=...)": limits,
            "wallets=": wallets,
            "customer_page=": customer_page,
        }
        early = next((name for name, given in needs.items() if given not in (None, False)), "")
        if early:
            raise ConfigurationError(
                f"{early} needs identify=, a function that returns the company before the app runs, such as "
                "lambda exchange: COMPANIES.get(exchange.headers.get('x-api-key')): meterkit.identify() in a view "
                "comes too late, so nothing would be blocked or shown. Where views ask governance themselves, as "
                "with meterkit.fastapi.Billing or meterkit.flask.govern(), or where the middleware of meterkit.mcp has "
                "company= or an identify= of its own, pass identify='view'. A kit that only "
                "calls record() may pass lambda exchange: None"
            )
        return
    if not callable(identify):
        raise ConfigurationError(
            f"identify= must be a function that takes an Exchange and returns a company id, or 'view', not {identify!r}"
        )
    if inspect.isasyncgenfunction(identify) or inspect.isgeneratorfunction(identify):
        raise ConfigurationError(f"identify= must return a company id, and {identify!r:.200} yields: replace its yield")


def checked_finder(find_customer: Any) -> FindCustomer | None:
    """Return *find_customer*, a plain function or None."""
    if find_customer is None:
        return None
    if not callable(find_customer) or inspect.iscoroutinefunction(find_customer):
        raise ConfigurationError(
            f"find_customer= must be a plain function that takes a company id and returns 'cus_...' or None, not "
            f"{find_customer!r:.200}"
        )
    return find_customer  # type: ignore[no-any-return]


def checked_switch(switch: Any, what: str) -> bool:
    """Return *switch*, True or False; *what* names the argument."""
    if not isinstance(switch, bool):
        raise ConfigurationError(f"{what}= must be True or False, not {switch!r:.100}")
    return switch


def checked_metadata_key(key: Any) -> str:
    """Return *key*, a metadata key that Stripe accepts: 1 to 40 characters, without square brackets."""
    if not isinstance(key, str) or not 0 < len(key) <= 40 or set(key) & set("[]"):
        raise ConfigurationError(f"metadata_key= must be a Stripe metadata key such as 'company', not {key!r:.100}")
    return key


def checked_clock(clock: Any) -> Callable[[], float]:
    """Return *clock*, a function."""
    if not callable(clock):
        raise ConfigurationError(
            f"clock= must be a function that returns Unix seconds, such as time.time, not {clock!r}"
        )
    return clock  # type: ignore[no-any-return]


def checked_directory(path: Any) -> Path:
    """Return *path* as an absolute path, which stays the same when the process changes its working directory."""
    try:
        directory = Path(path).absolute()
    except TypeError:
        raise ConfigurationError(f"data_dir= must be a path such as '/var/lib/billing', not {path!r}") from None
    if "?" in str(directory) or "%" in str(directory):  # special in the ledger's URL
        raise ConfigurationError(f"data_dir= must not contain '?' or '%': {str(directory)!r}; choose another path")
    return directory


def checked_key(key: Any) -> str | None:
    """Return *key*, a Stripe key for use on a server, or None."""
    if key is None:
        return None
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("stripe_key= must be a string such as 'sk_live_...', with no spaces or line breaks")
    if key.startswith(("pk_", "whsec_")):
        raise ConfigurationError(
            f"stripe_key= begins with {key[:3]!r}: this is a publishable key or a webhook secret. Use the secret key, "
            "sk_..., or a restricted one, rk_..."
        )
    return key


def checked_account(account: Any) -> str | None:
    """Return *account*, the id of a connected account, or None."""
    if account is None or (isinstance(account, str) and re.fullmatch(r"acct_\w{1,100}", account, re.ASCII)):
        return account
    raise ConfigurationError(f"stripe_account= must be the id of a connected account, acct_..., not {account!r:.100}")


def checked_word(word: Any, what: str, words: tuple[str, str]) -> str:
    """Return *word*, one of *words*; *what* names the argument."""
    if word not in words:
        raise ConfigurationError(f"{what}= must be {words[0]!r} or {words[1]!r}, not {word!r:.100}")
    return str(word)


def checked_flag(flag: Any, what: str) -> bool:
    """Return *flag*, True or False; *what* names the argument."""
    if not isinstance(flag, bool):
        raise ConfigurationError(f"{what}= must be True or False, not {flag!r:.100}")
    return flag


def checked_shadow(shadow: Any) -> float:
    """Return *shadow*, True, False or a whole hour with a time zone, as the Unix second until which others bill."""
    if isinstance(shadow, bool):
        return math.inf if shadow else 0.0
    if not isinstance(shadow, datetime) or shadow.utcoffset() is None or shadow.timestamp() % HOUR:
        raise ConfigurationError(
            "shadow= must be True, False, or the whole hour from which meterkit bills, with a time zone, such as "
            f"datetime(2026, 12, 1, tzinfo=timezone.utc), not {shadow!r:.100}"
        )
    return shadow.timestamp()


def checked_days(days: Any) -> int | None:
    """Return *days*, a number of days to keep usage, or None."""
    if days is None or (type(days) is int and days >= FEWEST_DAYS):
        return days
    raise ConfigurationError(
        f"keep_days= must be a whole number of days, at least {FEWEST_DAYS}, or None to keep all, not {days!r:.100}"
    )


def checked_base(base: Any, key: str | None) -> str | None:
    """Return *base*, a URL with its scheme, or None; *key* is the one that will be sent there."""
    if base is None:
        return None
    if not isinstance(base, str) or not base.startswith(("http://", "https://")):
        given = f", not {base!r:.100}" if "@" not in str(base) else ""  # there may be a password before it
        raise ConfigurationError(f"stripe_base= must be a URL such as 'http://127.0.0.1:12111'{given}")
    if base.startswith("http://") and is_live(key) and not _is_loopback(base):
        raise ConfigurationError(
            "stripe_base= begins with http://, so the live key would leave this machine unencrypted: use https://, or "
            "a test key"
        )
    return base


def _is_loopback(base: str) -> bool:
    try:
        host = urlsplit(base).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def checked_ledger(url: Any, directory: Path) -> str:
    """
    Return *url* as the SQLAlchemy URL of a database that can hold the ledger.

    Args:
        url: Such a URL, one for libpq such as hosts give out, or ``django:`` and an alias in ``DATABASES``.
        directory: Directory of the kit, for the file of its own that the ledger has where that database is SQLite.
    """
    if isinstance(url, str) and url.startswith("django:"):
        from meterkit.ledger.django import url_of_alias

        return url_of_alias(url.removeprefix("django:")) or _default_ledger(directory)
    if isinstance(url, str):
        url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    if not isinstance(url, str) or not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        scheme = re.match(r"[a-z][a-z0-9+.-]{0,40}://", url) if isinstance(url, str) else None
        given = f"; it begins with {scheme[0]!r}" if scheme else ""  # no more is shown: a password may be anywhere
        raise ConfigurationError(
            f"ledger= must be 'sqlite:///path', 'postgresql://...' or, in a Django project, 'django:default'{given}"
        )
    if url.count("@") > 1 and not url.startswith("sqlite"):
        raise ConfigurationError(
            "ledger= has more than one '@', so it is not clear where the password ends: write %40 for each but the one "
            "before the host"
        )
    path, _, options = url.removeprefix("sqlite:///").partition("?")
    if path in ("", ":memory:") or "mode=memory" in options:
        raise ConfigurationError("ledger= must be a file, because usage in memory would not outlive the process")
    return url


def positive(seconds: Any, what: str) -> float:
    """Return *seconds* as a float: more than 0, and at most a week; *what* names the argument."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 7 * 24 * 3600:
        raise ConfigurationError(f"{what}= must be a positive number of seconds, at most a week, not {seconds!r}")
    return float(seconds)
