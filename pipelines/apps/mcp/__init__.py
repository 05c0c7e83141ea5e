"""`audience mcp`: a server of the Model Context Protocol that answers an agent's questions about a warehouse."""
