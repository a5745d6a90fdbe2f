"""
Publish what requests are checked against, after each flush.

`snapshot_builder` reads what may have changed, and `publisher` writes the figures that follow from it by the `rules` of
the kit into the `meterkit.snapshot` that all processes read; `plan_names` says which plan each company is on. Other
processes are each a `follower` of it. `request_figures` does what this process is to do of that.
"""
