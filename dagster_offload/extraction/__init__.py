"""A file in, its text out, in a child process that can be killed. OCR is here too.

Nothing here knows the ledger or a slot. Readers of single formats are in `formats`."""
