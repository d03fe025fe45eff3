"""One reader for each format (reasons: docs/decisions/0007-extractors.md). Readers take bytes, return text, do no I/O."""
