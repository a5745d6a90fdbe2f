"""
Who is notified of what, once.

In reading order: `notice`, `rules`; `evaluator` finds what is new with `usage_notices` and `account_notices`, `store`
writes each once, `dispatcher` delivers through `meterkit.channels`.
"""
