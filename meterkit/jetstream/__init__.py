"""
Usage on its way through NATS JetStream: hosts publish what they have counted, collectors fold it into the ledger.

A host publishes each generation of its journal as one message, and removes the file once JetStream has acknowledged it
with all its replicas. A collector, ``meterkit collect``, folds many generations in one transaction, and acknowledges
them after the commit. The ledger's record of each folded generation makes it count once, however often it is published
and delivered.

Only `client` and `stream` import nats-py.
"""
