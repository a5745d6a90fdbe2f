"""
How to call Stripe. Independent of the database.

In reading order: `transport`, `outcomes` (what each response means), `retry`, `clock`; then what several stages need:
`catalog`, `event_summaries`, and `idempotency` for creating an object exactly once.
"""
