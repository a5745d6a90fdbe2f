"""
Automatic top-up: when a company's balance is low, a pack is charged to its saved card, as it has agreed.

In reading order: `terms` are checked, `agreements` says who has agreed to which, and `attempts` are the charges that
follow, whose steps in Stripe are in `meterkit.reporting.top_up_invoices`.
"""
