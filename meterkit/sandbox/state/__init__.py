"""What an account holds between two requests: records, usage, money, periods and the clock."""
