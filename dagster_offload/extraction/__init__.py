"""Extract the text of files, with OCR where needed, in a child process that can be killed.

This package does not use the ledger or a slot. `file_types` recognizes what a file is, `formats` reads one format each,
`encodings` decodes bytes, and `ocr` reads pictures.
"""
