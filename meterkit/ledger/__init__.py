"""
The database and the usage in it. The only package that defines tables.

In reading order: `schema`, `database`, `bulk`, `ledger`, `books`, `daily_totals`, `aggregates`, `payers`; `migrations`
brings an older ledger up to date, `lease` gives one process at a time the right to report.
"""
