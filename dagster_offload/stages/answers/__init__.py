"""The answers that stages accept: how they are parsed, cleaned, checked against the document, compared and corrected. No I/O."""
