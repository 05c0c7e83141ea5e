"""Where the metrics that a job reports to its runner are found."""

NAMESPACE = "audience"
