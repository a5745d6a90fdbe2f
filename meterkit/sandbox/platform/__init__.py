"""What belongs to an account rather than to its billing: webhook endpoints, delivery, connected accounts, test clocks."""
