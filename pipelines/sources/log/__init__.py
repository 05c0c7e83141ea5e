"""A write-ahead log in a folder of this machine, which is also a queue of a stream."""
