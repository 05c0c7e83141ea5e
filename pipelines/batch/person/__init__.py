"""Find and erase a person: everything that names them deleted or redacted, with a proof, in one commit."""
