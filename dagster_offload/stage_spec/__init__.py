"""A stage as a person writes it: its prompt, the fields of its answer, and its condition. Pure.

This package validates what is written and builds the answer's pydantic model and JSON schema. What a stage sends and
accepts belongs in `stages`, and loading a file in `settings`.
"""
