"""This machine: file ownership, and how this project starts Python. Standard library only."""
