"""The dialects that the collector knows, a module each.

May import `dialect` and each other's helpers in `bodies`; knows no server, no log and no clock but that of a signature.
"""
