"""
What a company may use is drawn from the ledger ahead, in slices, so that a request only touches memory.

Units of an exact quota, or of a wallet, are drawn by each process that serves the company, in a transaction that all
processes wait for, as many as it is about to need. A request takes from the slice of its process. What has been drawn
is in the ledger: usage and all slices together are the most that can have been used, whoever is killed.

In reading order: `taken` is what one request or hold has of a `slice`, `rows` reads and writes what is drawn in the
ledger, `draw` draws, and `slices` is what a process has of all companies.
"""
