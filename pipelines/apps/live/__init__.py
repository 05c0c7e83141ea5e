"""`audience live`: one page about a warehouse as it is now, over server-sent events."""
