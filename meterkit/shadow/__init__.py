"""
Compare what meterkit has counted with what another program has billed, by customer and hour.

For shadow mode, in which meterkit counts beside the present biller; the figures of the other come from Stripe's own
sums, or from a CSV file.
"""
