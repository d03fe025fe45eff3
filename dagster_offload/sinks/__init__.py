"""Sinks: each finished record is sent to the programs and servers that the pipeline file names under `on_record`.

`planning` turns changed records into deliveries, `sender` sends those that are due, `next_try` decides what a failure means.
One module per kind of sink: `command`, `webhook`, `paperless`. `recipient` is what sinks and channels have
in common: `notify` uses it, too. Nothing here holds up the work on documents.
"""
