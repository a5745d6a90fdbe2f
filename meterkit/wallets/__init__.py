"""
Prepaid balances: what companies were granted, and what their usage has spent of it.

A wallet has a unit or a currency, and a rate for each meter that is spent from it. All amounts are ints in millionths
of the unit, in double-entry rows of the ledger.

In reading order: a `wallet` is declared, with `packs` for sale; `entries` are written by `grants` and, for what usage
spends, by `balances`; `statement` reads them, and `audit` checks them.
"""
