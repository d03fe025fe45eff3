"""Mail messages, with their attachments' names: RFC 822, Apple Mail, Outlook."""
