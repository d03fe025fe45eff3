"""Readers of Hangul documents: HWP 5 and HWPX. HWP 3 is another format, which is not read."""
