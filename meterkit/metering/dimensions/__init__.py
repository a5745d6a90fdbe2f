"""
Dimensions: by what a meter's usage is told apart, such as the model and the kind of token.

In reading order: `declaration` and `sources`, what ``Meter(by=...)`` takes; `values`, which texts are values;
`quantities`, what views add with values; `capture`, how values are found; `limit`, so that clients who choose values
cannot fill the journal.
"""
