"""
What a company will have used, and owe, when a period ends; and when it reaches a limit at this pace.

In reading order: `history` reads daily sums of the ledger; `projection` goes on from them, with a range; `forecast` has
what is said of a company, and `forecaster` puts it together, with what it costs and the limits. Notices, pages,
`MeterKit.forecast` and the command, in `command`, all show what these compute. ``python -m benchmarks.forecasts``
measures how far off they are.
"""
