"""A stream's sink in BigQuery: at least once or exactly once, with refused rows for quarantine."""
