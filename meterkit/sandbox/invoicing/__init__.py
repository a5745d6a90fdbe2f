"""Invoices, their lines, and their payment."""
