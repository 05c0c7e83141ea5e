"""People: the answers about one person that the live process serves to whoever has a key."""
