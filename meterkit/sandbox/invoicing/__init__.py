"""Invoices: their lines, what is taken off, what is due, and its payment."""
