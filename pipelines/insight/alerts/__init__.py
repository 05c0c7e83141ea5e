"""Alerts: what the rules of the configuration find as of a time, kept in a table and sent once.

table.py     the table `alerts`: a row for each change of an alert, only appended
findings.py  what a rule finds in the warehouse as of a time
changes.py   findings and the rows so far -> the rows to add: opened, resolved, unmuted
outbox.py    messages on disk: written before they are sent, marked after
channels.py  how a message is sent: webhook, Slack, Pub/Sub, Kafka, e-mail
run.py       all of it after a refresh, and a test message
"""
