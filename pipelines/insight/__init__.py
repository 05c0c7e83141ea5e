"""Insight: passes over the warehouse's own days, as of a time: freshness, forecasts, trends, profiles, ...

shape.py     Inputs, Pass: what a pass may read, and what it is
passes.py    PASSES, each in a file of its own
unique.py    events of a kind, each once
tables.py    the tables that they write
people.py    whose an event is, as of the time
clock.py     the warehouse's clock in SQL
refresh.py   run them as of a time, and commit once
predict/     models of persons: their training, their files, their scores
alerts/      rules evaluated after a refresh, kept in a table and sent once
place.py     where their rows are: beside the tables of a local warehouse, among those of a dataset
"""
