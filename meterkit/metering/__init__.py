"""
What runs inside the user's request, and nothing else: which meters match an exchange, how much each counts, for whom.

It knows no file, no SQL and no Stripe. In reading order: `exchange`, `meter`, `aggregation`, `matching`,
`identification`, `evaluation`, `recorder`; `context` is what a view calls, `route_check` a warning on the side.
"""
