"""Hold units of a quota or a wallet for work whose usage is only known at its end."""
