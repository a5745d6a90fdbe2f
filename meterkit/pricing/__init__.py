"""
What usage costs: the arithmetic, and what reads the ledger to apply it.

In reading order: `price`, `stripe_price`, `cost`, `preview`, `simulation`.
"""
