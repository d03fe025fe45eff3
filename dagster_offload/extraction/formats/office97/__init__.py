"""Readers of the binary Office formats: DOC, PPT, XLS and XLSB. Newer files are archives of XML and have readers outside."""
