"""One reader for each format that the general extractor does not read well enough. Bytes in, text out; no other I/O."""
