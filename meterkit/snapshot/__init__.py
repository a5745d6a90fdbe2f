"""
What requests are checked against, in a memory-mapped file that one process writes and all others read.

`file_format` describes the file, `table` and `writer` publish figures in it, and `reader` finds those of a company. No
reader takes a lock, and none imports the database.
"""
