"""One reader for each format (docs/decisions/0007-extractors.md says why). Readers take bytes, return text, do no I/O."""
