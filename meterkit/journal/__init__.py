"""
Counts that survive a kill: counters in memory-mapped files, folded into the ledger every few seconds.

No meters, no SQL and no Stripe. In reading order: `file_format`, `index`, `generation`, `pool`, `journal`; then
`recovery` for the files of dead processes, and `cardinality` for the bound on memory.
"""
