"""
Stripe's way back, the half that talks to Stripe: from a signed request to what has changed.

In reading order: `config`, `endpoint`, `signature`, `verification`, `mapping`, `account_sync`.
`meterkit.accounts` has the results.
"""
