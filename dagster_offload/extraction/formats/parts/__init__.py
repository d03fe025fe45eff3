"""What several readers share: XML archives, tables and notes in Markdown, list numbers, cell formats. No whole format."""
