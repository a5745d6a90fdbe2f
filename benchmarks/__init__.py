"""What metering costs a request, side by side with other ways, in one run: ``python -m benchmarks``."""
