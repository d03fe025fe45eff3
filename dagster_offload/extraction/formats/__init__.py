"""One reader for each format that kreuzberg does not read well enough. Readers take bytes, return text, do no I/O."""
