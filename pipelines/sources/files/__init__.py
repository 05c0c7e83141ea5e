"""Files as a source: find them, split them, read them as blocks; JSON Lines, CSV and Parquet, local or in a bucket."""
