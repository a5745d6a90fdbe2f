"""HTTP as Stripe speaks it: requests, parameters, errors, lists, idempotency, rate limits."""
