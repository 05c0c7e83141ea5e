"""From a sample of records to a mapping, and from a mapping to what it would make of a sample."""
