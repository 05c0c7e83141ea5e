"""`audience demo`: real and simulated events through the graph, from files or as a stream; and its emulators."""
