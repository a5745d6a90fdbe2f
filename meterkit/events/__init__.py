"""
Usage events from apps in any language, in the form of CloudEvents 1.0.

`attributes` checks what was sent of each `event`, `matching` finds the meters that count it and how much, and `counter`
adds that to the journal, once for each source and id. The service brings the events of a request.
"""
