"""Customers and subscriptions: what is billed, and when."""
