"""
What only one of the processes that share a `data_dir` does: fold, report, follow, notify.

It holds the lock of `meterkit.flusher.lock`. The others count, and hand over what they have counted.
"""
