"""
The part that runs inside the user's request: which meters match an exchange, how much each counts, and who pays.

No files, no SQL, no Stripe. In reading order: `exchange`, `meter`, `aggregation`, `matching`, `identification`,
`evaluation`, `recorder`; then `context`, which views call, and `unmatched`, which tells of what no meter matches.
"""
