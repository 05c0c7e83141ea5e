"""Kafka as a source: topics of a cluster, read by assigned partitions, committed when a bundle is finalized."""
