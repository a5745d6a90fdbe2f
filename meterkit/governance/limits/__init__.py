"""
What companies may use.

`limit_cache` asks the application for the limits of quotas, and `plan_limits` takes them from plans. Exact quotas and
wallets can never be exceeded: before a request is allowed, `exact_limits` takes what it may count of the slices that
this process has drawn from the ledger, and `sources` says how much a company has left there.
"""
