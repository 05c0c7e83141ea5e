"""`audience report`: a page of charts from a warehouse, in one HTML file."""
