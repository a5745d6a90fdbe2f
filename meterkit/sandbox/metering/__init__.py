"""Stripe's meters, their events in both versions, and what it tells of them by webhook."""
