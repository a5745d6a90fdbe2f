"""
Stripe's way back, the half that talks to Stripe: from a signed request to what has changed.

In reading order: `config`, `endpoint`, `verification`, `mapping`, `account_sync`. `meterkit.accounts` has the results.
"""
