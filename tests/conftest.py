"""The servers that tests run against; each starts when the first test asks for it."""

pytest_plugins = ["tests.servers.pubsub"]
