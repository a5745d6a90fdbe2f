"""
How to talk to Stripe, whoever talks. It knows no table.

In reading order: `transport`, `outcomes` (what each response means), `retry`, `clock`; then the objects that two or
more stages ask for: `catalog`, `event_summaries`, and `idempotency` for creating one exactly once.
"""
