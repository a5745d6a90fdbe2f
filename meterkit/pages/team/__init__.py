"""
The team's pages: all companies, their usage and money, what waits, and whether all is well.

Read `sources` first, then `tables` for what a page consists of; then the pages, in the order of `routes`.
"""
