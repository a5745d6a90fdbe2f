"""Stripe's objects that end in an invoice: customers, products, prices, subscriptions, invoices."""
