"""Sources: where raw blocks come from, each a PTransform from PBegin to blocks of `RAW_SCHEMA`.

files/          files on a disk or in a bucket
pubsub/         the first queue
landing.py      what a stream keeps of a queue until it is committed; watermark.py how far a queue has been read
stored.py       the events of a warehouse; quarantined.py its quarantine

May import warehouse, system, transforms.
"""
