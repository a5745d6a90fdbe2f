"""HTTP as Stripe uses it: requests, parameters, errors, lists, idempotency, rate limits."""
