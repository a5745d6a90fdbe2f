"""Words that three or more stages share, and no stage owns: bounds, windows, periods, threads, HTTP responses."""
