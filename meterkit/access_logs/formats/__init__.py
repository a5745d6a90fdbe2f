"""
Formats of access logs.

`named` lists them, and finds the one that a file has; `templates` makes one of a ``log_format`` of nginx or a
``LogFormat`` of Apache; `structured` reads JSON; each makes a `Line`.
"""
