"""Subscription schedules: what a subscription will be, phase by phase."""
