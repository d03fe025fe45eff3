"""How fast the product is, as ratios: each against something measured in the same minute on the same machine.

`make bench` runs everything; `make bench ARGS="drain claims"` picks rows by name. One file a group of rows; what judges
a drain is the stand-in router's log, in a process of its own, never our own clock.
"""
