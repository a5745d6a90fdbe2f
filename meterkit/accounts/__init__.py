"""
Who pays, whether they are overdue, and what they have used in the period. The database half of webhooks.

In reading order: `models`, `accounts`, `inbox`, `standing`, `overview`; then `billing_periods`, `period_usage` and
`statement`, which shows a customer its own usage.
"""
