"""This machine: whose a file is, how files are replaced, and how this project starts Python and other programs. Standard library only."""
