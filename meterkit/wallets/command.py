"""The command ``wallet``: its words and their arguments, and what each does with a kit."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.errors import UsageError

if TYPE_CHECKING:  # SQLAlchemy is imported by the command alone
    from meterkit.kit import MeterKit
    from meterkit.wallets.grants import Grant
    from meterkit.wallets.statement import Balance, Entry

Add = Callable[[argparse.ArgumentParser], None]
"""Adds an argument to the parser of a command."""

_AUDIT = "check the books of all wallets"

_TIMES = ("at", "created_at", "expires_at", "next_at")


def add_arguments(command: argparse.ArgumentParser, *, kit: Add, by: Add, limit: Add, as_json: Add) -> None:
    """
    Add the words of the command and their arguments.

    Args:
        command: Parser of the command.
        kit: Adds the kit.
        by: Adds ``--by``.
        limit: Adds ``--limit``.
        as_json: Adds ``--json``.
    """
    words = command.add_subparsers(metavar="word", required=True)

    def word(name: str, summary: str) -> argparse.ArgumentParser:
        added = words.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        added.set_defaults(word=name)
        kit(added)
        added.add_argument("company", metavar="COMPANY", help="company id, as the application knows it")
        added.add_argument("wallet", metavar="WALLET", help="name of the wallet")
        return added

    grant = word("grant", "grant an amount to a company ahead of its usage")
    grant.add_argument("amount", metavar="AMOUNT", help="in the wallet's unit, or in whole currency: 1000 or 12.50")
    grant.add_argument("--key", metavar="TEXT", help="name of this grant, such as a payment's id; it grants once")
    grant.add_argument(
        "--priority", type=int, default=50, metavar="N", help="0 to 100; the lowest is spent first (default: 50)"
    )
    grant.add_argument(
        "--expires", type=_moment, metavar="TIME", help="when the rest expires: 2027-01-01T00:00Z (default: never)"
    )
    grant.add_argument("--paid", metavar="AMOUNT", help="what was paid for it, without tax, for the margin")
    grant.add_argument("--currency", default="usd", metavar="CODE", help="currency of what was paid (default: usd)")
    by(grant)
    as_json(grant)

    balance = word("balance", "show what a company has in a wallet, and its grants")
    as_json(balance)

    revoke = word("revoke", "take back what is left of a grant")
    revoke.add_argument("grant", metavar="GRANT", help="id of the grant or its key, as balance shows them")
    revoke.add_argument("--amount", metavar="AMOUNT", help="how much to take back (default: all that is left of it)")
    revoke.add_argument("--key", metavar="TEXT", help="name of this, such as a refund's id; it takes back once")
    by(revoke)
    as_json(revoke)

    top_up = word("top-up", "show, agree to or end the automatic top-up of a company")
    top_up.add_argument("--pack", metavar="NAME", help="pack that is bought when the balance is low")
    top_up.add_argument("--below", metavar="AMOUNT", help="balance below which it is bought")
    top_up.add_argument(
        "--most-per-month", type=int, default=10, metavar="N", help="how often in a month, at most (default: 10)"
    )
    top_up.add_argument("--off", action="store_true", help="end the top-up instead")
    by(top_up)
    as_json(top_up)

    audit = words.add_parser("audit", help=_AUDIT, description=f"{_AUDIT[0].upper()}{_AUDIT[1:]}.")
    audit.set_defaults(word="audit")
    kit(audit)
    as_json(audit)

    entries = word("entries", "show the movements of a company's balance, newest first")
    limit(entries)
    as_json(entries)


def run(load: Callable[[], MeterKit], arguments: argparse.Namespace, says: Callable[[str], object]) -> bool:
    """
    Do what the word says.

    Args:
        load: Function that imports the kit.
        arguments: Arguments as `add_arguments` describes them.
        says: Prints a line.

    Returns:
        False if the audit has found something.

    Raises:
        UsageError: An argument is wrong.
        LedgerError: The ledger failed.
    """
    words: dict[str, Callable[[MeterKit, argparse.Namespace], tuple[Any, list[str]]]] = {
        "grant": _grant,
        "balance": _balance,
        "revoke": _revoke,
        "entries": _entries,
        "audit": _audit,
        "top-up": _top_up,
    }
    with closing(load()) as kit:
        data, lines = words[arguments.word](kit, arguments)
    for line in [json.dumps(data, indent=2, default=str)] if arguments.json else lines:
        says(line)
    return arguments.word != "audit" or not data


def _grant(kit: MeterKit, arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    about: dict[str, Any] = {
        name: getattr(arguments, name) for name in ("key", "priority", "expires", "by", "paid", "currency")
    }
    found = kit.grant(arguments.company, arguments.wallet, arguments.amount, **about)
    return _readable(asdict(found)), [f"Granted: {_of_grant(found)}"]


def _balance(kit: MeterKit, arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    kit.flush()
    found = kit.balance(arguments.company, arguments.wallet)
    lines = [f"{name:<10}{_number(getattr(found, name)):>20} {found.unit}" for name in _shown(found)]
    lines += [f"  {_of_grant(grant)}" for grant in found.grants]
    return _readable(asdict(found)), lines


def _shown(found: Balance) -> list[str]:
    """Return the names of the figures of a balance that say something."""
    always = ("granted", "spent", "left")
    names = ("granted", "spent", "expired", "revoked", "held", "left", "uncovered")
    return [name for name in names if name in always or getattr(found, name)]


def _revoke(kit: MeterKit, arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    about: dict[str, Any] = {name: getattr(arguments, name) for name in ("amount", "key", "by")}
    taken = kit.revoke(arguments.company, arguments.wallet, arguments.grant, **about)
    unit = kit.wallets[arguments.wallet].of
    return {"revoked": f"{taken:f}", "unit": unit}, [f"Taken back: {_number(taken)} {unit}"]


def _entries(kit: MeterKit, arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    kit.flush()
    found = kit.wallet_entries(arguments.company, arguments.wallet, limit=arguments.limit)
    unit = kit.wallets[arguments.wallet].of
    return [_readable(asdict(each)) for each in found], [_of_entry(each, unit) for each in found] or ["No movements."]


def _audit(kit: MeterKit, _arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    found = kit.audit_wallets()
    return found, found or ["The books of all wallets are right."]


def _top_up(kit: MeterKit, arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    company, wallet = arguments.company, arguments.wallet
    if arguments.off:
        kit.cancel_top_up(company, wallet, by=arguments.by)
    elif arguments.pack is not None or arguments.below is not None:
        if arguments.pack is None or arguments.below is None:
            raise UsageError("--pack and --below belong together: say both", reason="offer_wrong")
        about: dict[str, Any] = {name: getattr(arguments, name) for name in ("below", "most_per_month", "by")}
        kit.set_top_up(company, wallet, arguments.pack, **about)
    found = kit.top_up(company, wallet)
    if found is None:
        return None, [f"{company} has never agreed to an automatic top-up of {wallet}."]
    unit = kit.wallets[wallet].of
    state = "in force" if found.enabled else "not in force"
    error = "" if found.error is None else f"; {found.failures} failed, at last: {found.error}"
    again = "" if found.next_at is None else f"; nothing is bought before {_instant(found.next_at)}"
    bought = f"{found.bought} of at most {found.most_per_month} bought this month"
    terms = f"{found.pack} below {_number(found.below)} {unit}, {bought}"
    return _readable(asdict(found)), [f"Automatic top-up, {state}: {terms}{error}{again}"]


def _of_grant(grant: Grant) -> str:
    expires = "" if grant.expires_at is None else f", expires {_instant(grant.expires_at)}"
    by = f" by {grant.by}" if grant.by else ""
    return (
        f"{_number(grant.remaining)} of {_number(grant.amount)} {grant.unit} left, priority {grant.priority}{expires}; "
        f"{grant.source}{by}, {_instant(grant.created_at)}, key {grant.key}, id {grant.id}"
    )


def _of_entry(entry: Entry, unit: str) -> str:
    what = f" {entry.quantity:,} {entry.meter}" if entry.meter else ""
    missing = f", not covered: {_number(entry.uncovered)}" if entry.uncovered else ""
    about = "".join(f", {name} {value}" for name, value in (("key", entry.key), ("by", entry.by)) if value)
    return f"{_instant(entry.at)}  {_number(entry.amount):>20} {unit}  {entry.cause}{what}{missing}{about}"


def _readable(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _readable(inner, key) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(inner) for inner in value]
    if isinstance(value, Decimal):
        return f"{value:f}"
    return _instant(value) if name in _TIMES and isinstance(value, int) else value


def _number(number: Decimal) -> str:
    return f"{number:,f}"


def _instant(moment: int) -> str:
    return datetime.fromtimestamp(moment, tz=timezone.utc).strftime("%Y-%m-%dT%H:%MZ")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None:
        raise argparse.ArgumentTypeError(
            f"must be a time with a time zone, such as 2027-01-01T00:00Z, not {text!r:.40}"
        )
    return moment
