"""
The database and the usage in it. No other package defines tables.

In reading order: `schema`, `database`, `bulk`, `ledger`, `books`, `daily_totals`, `aggregates`, `payers`; `migrations`
upgrades an older ledger, and `lease` makes sure that one process at a time reports or syncs accounts.
"""
