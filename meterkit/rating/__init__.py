"""
What happens to rated usage after the fold.

In reading order: `lines`, of invoices, for usage that is not reported as amounts; `rerate`, which gives a month's usage
the rates that hold now; `command`, ``meterkit rerate``.
The rates are in `meterkit.pricing.rates`, and the fold rates usage in `meterkit.ledger.rating`.
"""
