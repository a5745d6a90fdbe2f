"""Pages that Stripe hosts, for a browser to click through: Checkout, and the customer portal."""
