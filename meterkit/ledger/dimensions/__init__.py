"""
Usage by the values of its meters' dimensions.

In reading order: `rows`, which a fold writes; `reading`, sums by values, which add up to the usage of the meter;
`reversal`, what a correction takes away.
"""
