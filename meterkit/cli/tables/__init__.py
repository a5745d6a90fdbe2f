"""The output of each group of commands, as tables. These are the only modules that need ``rich``."""
