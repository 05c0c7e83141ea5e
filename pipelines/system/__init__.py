"""The operating system: durable writes and locks, private files, listening sockets, text for a terminal, progress.

May import transforms.errors and nothing else of this project.
"""
