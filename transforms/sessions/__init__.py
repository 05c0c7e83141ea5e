"""Sessions: from events to sessions, in a batch and in a stream."""
