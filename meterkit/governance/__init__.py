"""
Whether a request is allowed, decided before the app runs.

In reading order: `policy` is what a developer writes, `matching` finds what applies to a path, `governor` checks
requests against the `figures` of a company in the `meterkit.snapshot` and against `limits`, and `company_plans` knows
each company's plan. `refusal` builds the response to a blocked request, `blocked_responses` sends and counts them, and
`blocked_requests` keeps their daily counts.
"""
