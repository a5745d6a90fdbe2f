"""
What usage costs: the arithmetic, and its application to the usage in the ledger.

In reading order: `price`, `stripe_price`, `subscription_terms`, `bill`, `opening_balances`,
`invoice_calculator`, `cost`, `preview`, `simulation`.
"""
