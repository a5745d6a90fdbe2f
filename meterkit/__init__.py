"""Usage-based billing for Python web APIs, in process."""
