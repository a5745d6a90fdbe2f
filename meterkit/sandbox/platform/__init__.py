"""What belongs to an account, and not to its billing: webhook endpoints, delivery, connected accounts, test clocks."""
