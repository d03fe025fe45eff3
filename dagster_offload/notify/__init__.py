"""Notifications: people are notified, once per event, by the channels that the pipeline file names under `notify`.

`events` decides what there is to say, `look` reads the facts and stores the messages, `sender` sends those that are due. `ntfy`
and `mail` are channels; commands and webhooks are those of `sinks`. Nothing here holds up the work on documents.
"""
