"""
What usage costs the seller, and what is left of what it brings in.

Costs are applied when they are asked for, and are nowhere stored: a corrected cost corrects the past. Only the team's
page, ``kit.margin()`` and ``meterkit margin`` know them; nothing below this package in the flow does.
In reading order: `unit_costs`, `cost_table`, `model_prices`, `cost`, `usage_sums`, `usage_costs`, `revenue`, `report`,
`calculation`, `page`, `command`.
"""
