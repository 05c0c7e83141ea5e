"""Pub/Sub as a source: the queue, its reader with leases, and Beam's own reader for Dataflow."""
