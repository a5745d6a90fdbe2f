"""
Prices by the values of dimensions, such as one for each language model.

In reading order: `table`, the rates and which one holds; `declaration`, what ``Price.by(...)`` takes; `files`, tables
in CSV, TOML and JSON; `of_kit`, the tables of a kit; `amounts`, what lines of invoices say of them.
The fold of a ledger asks the table: see `meterkit.ledger.rating`.
"""
