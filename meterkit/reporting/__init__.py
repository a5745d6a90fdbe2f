"""
The Stripe half of reporting: send the outbox, and verify what arrived.

In reading order: `reporter` runs one pass, `delivery` sends batches through `worker_pool` by one of the two senders,
`meter_events` or `meter_event_stream`; `uncertain` resolves unknown outcomes. `corrections`, `reconciliation` and
`explanation` run on an operator's request. `meterkit.outbox` is the SQL half.
"""
