"""
Whether a request is allowed, decided before the app runs.

In reading order: `policy` is what a developer writes, `matching` finds what applies to a path, `governor` checks
requests against the `figures` of a company in the `meterkit.snapshot`; `limits` and `reservations` serve quotas,
`company_plans` and `plan_limits` those of plans, `refusal` builds the response, and `blocked_requests` counts.
"""
