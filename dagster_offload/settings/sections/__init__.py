"""The sections of the pipeline file: the keys of each, and what their values may be. No I/O beyond reading a secret's file."""
