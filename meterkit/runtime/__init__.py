"""
What belongs to a process: settings, threads, forks, schedules, health. It introduces the stages to each other.

In reading order: `settings`, `assembly`, `supervisor`, `process`, `stripe_jobs`, `periodic`, `health`; `backfill` and
`stripe_commands` do what the command line asks for.
"""
