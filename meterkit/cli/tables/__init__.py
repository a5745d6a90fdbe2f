"""The output of each group of commands, as tables for people. Imported only where ``rich`` is installed."""
