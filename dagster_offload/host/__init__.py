"""This machine: who owns a file, and how we start Python. Standard library only."""
