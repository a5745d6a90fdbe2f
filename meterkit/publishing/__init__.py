"""
Publish what requests are checked against, after each flush.

`ledger_reading` reads what may have changed, and `publisher` writes the figures that follow from it by the `rules` of
the kit into the `meterkit.snapshot` that all processes read; `plan_names` says which plan each company is on.
"""
