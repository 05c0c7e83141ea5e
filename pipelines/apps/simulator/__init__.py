"""`audience simulate`: events with known faults, and a ledger of what should come of them."""
