"""
What belongs to a process: settings, threads, forks, schedules, health. It connects the stages.

In reading order: `settings`, `assembly`, `supervisor`, `process`, `stripe_jobs`, `health`; `backfill` and
`stripe_commands` implement commands of the command line.
"""
