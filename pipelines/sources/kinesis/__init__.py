"""A Kinesis data stream as a queue: every shard is read in one process, and marks are kept beside the warehouse."""
