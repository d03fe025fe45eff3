"""Decodes bytes whose encoding is unknown."""
