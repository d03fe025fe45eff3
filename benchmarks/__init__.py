"""Benchmarks: mostly ratios to something measured in the same minute on the same machine.

`make bench` runs everything; `make bench ARGS="drain claims"` selects rows by name. Each file has a
group of rows. Drains are timed by the log of the stand-in router, which runs in a process of its own.
"""
