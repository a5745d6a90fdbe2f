"""
Make Stripe match the code, before the first request.

In reading order: `steps`, `provisioner`, `prices`, `fees`, `webhook_endpoint`, `writer`; `subscription` subscribes
a company to an `offer`, `move` moves subscriptions, `code_generator` goes the other way, from an existing account to
code.
"""
