"""Records: how payloads are read and written: JSON, CSV, numbers, times, paths, matches."""
