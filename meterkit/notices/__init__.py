"""
Who is notified of what, once.

In reading order: `notice`, `rules`; `evaluator` finds the notices that are due, with `usage_notices` and
`account_notices`; `store` writes each once; `dispatcher` delivers them through `meterkit.channels`.
"""
