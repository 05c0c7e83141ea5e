"""Programs: what a person launches. This package wires `transforms`; it is never imported by them."""
