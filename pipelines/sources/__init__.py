"""Where raw blocks come from: one file a source, each a PTransform from PBegin to blocks of `RAW_SCHEMA`."""
