"""What a slot is, and what its answers mean: addresses, the request body, the reply, JSON dialects.

Pure values and the standard library only. Nothing here opens a socket; that is `client`."""
