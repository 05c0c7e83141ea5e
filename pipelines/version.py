"""The version, stamped on every row that a run publishes."""

VERSION = "0.1.0"
