"""Segments elsewhere: what changed since the last sync goes to each target, each change once by its id.

members.py  who is in a segment, and what changed since
state.py    the folder of a segment and target: what the target has, and a plan that is under way
targets.py  how changes are sent: file, Google Ads, webhook, Pub/Sub, Kafka
run.py      a sync: finish the plan of before, plan, send, keep
"""
