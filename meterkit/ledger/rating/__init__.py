"""
Usage that has a price by the values of its dimensions.

In reading order: `rows`, which a fold writes: it rates usage, once; `changes`, when usage is reversed or gets another
rate; `reading`, what was rated, and what has no price.
"""
