"""How money is taken: payment methods, payment intents, the payments of invoices, setup intents."""
