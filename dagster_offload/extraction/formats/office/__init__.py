"""Word processor files, workbooks and slides, in Office Open XML and OpenDocument."""
