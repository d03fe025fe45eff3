"""The request each stage sends, and the answers it accepts. Pure: no I/O, no ledger.

`graph` names the stages and their upstreams. `catalog` builds the stages from the settings.
"""
