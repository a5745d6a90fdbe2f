"""Stripe's meters, meter events of both versions, alerts, and the delivery of webhook events."""
