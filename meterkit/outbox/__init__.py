"""
The database half of reporting: what will be, was, or may have been sent to Stripe.

In reading order: `seal` writes reports, `reports` describes them, `outbox` records what becomes of each; then
`corrections`, `late_usage` and `retention`. `meterkit.reporting` is the half that calls Stripe.
"""
