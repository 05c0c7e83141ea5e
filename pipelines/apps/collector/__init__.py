"""`audience collect`: an HTTP server that takes the events of trackers and webhooks into a write-ahead log."""
