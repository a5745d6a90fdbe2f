"""
Make Stripe match the code, before the first request.

In reading order: `steps`, `provisioner`, `prices`, `fees`, `writer`; `subscription` subscribes a company,
`code_generator` goes the other way, from an existing account to code.
"""
