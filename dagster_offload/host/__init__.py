"""This machine: who owns a file, how files are replaced, how Python and other programs are started. Standard library only."""
