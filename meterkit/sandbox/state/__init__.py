"""The state of an account: records, usage, money, periods and the clock."""
