"""Extract the text of files, with OCR where needed, in a child process that can be killed.

This package does not use the ledger or a slot. Readers of single formats are in `formats`.
"""
