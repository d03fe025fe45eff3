"""This machine: file ownership, and how this project starts Python and other programs. Standard library only."""
