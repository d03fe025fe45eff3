"""What a slot is, and what its answers mean: addresses, request bodies, answers, request variants.

Only pure values and the standard library. `client` opens the sockets.
"""
