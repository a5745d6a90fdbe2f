"""What metering costs a request, next to other ways to count, in one run: ``python -m benchmarks``."""
