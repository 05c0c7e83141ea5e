resource "google_project_service" "api" {
  for_each           = local.apis
  service            = each.key
  disable_on_destroy = false # other resources of the project may use it
}

data "google_project" "this" {
  depends_on = [google_project_service.api]
}

resource "google_pubsub_topic" "events" {
  name                       = "${var.name}-events"
  message_retention_duration = "${var.message_retention_days * 86400}s" # a subscription can seek back this far
  kms_key_name               = var.kms_key
  depends_on                 = [google_project_service.api]
}

resource "google_pubsub_topic" "dead_letters" {
  name         = "${var.name}-dead-letters" # it retains nothing itself: its subscription does
  kms_key_name = var.kms_key
  depends_on   = [google_project_service.api]
}

resource "google_pubsub_subscription" "events" {
  name                       = "${var.name}-events"
  topic                      = google_pubsub_topic.events.id
  ack_deadline_seconds       = 60
  message_retention_duration = "${var.message_retention_days * 86400}s"
  retain_acked_messages      = false # the topic retains them

  expiration_policy {
    ttl = "" # never expires, even if no stream has read it for a month
  }

  # A record that breaks a rule is acknowledged and is in quarantine. A message that arrives here was nacked repeatedly: it
  # kills workers, or workers were killed often. A reader nacks everything it has in flight, so fewer attempts than the
  # maximum would send good messages here with a bad one. Google supports neither policy where Dataflow reads: null
  # leaves both out.
  dynamic "dead_letter_policy" {
    for_each = var.max_delivery_attempts[*]
    content {
      dead_letter_topic     = google_pubsub_topic.dead_letters.id
      max_delivery_attempts = dead_letter_policy.value
    }
  }

  dynamic "retry_policy" {
    for_each = var.max_delivery_attempts[*]
    content {
      minimum_backoff = "10s"
      maximum_backoff = "600s"
    }
  }

  depends_on = [google_pubsub_topic_iam_member.dead_letters]
}

# A topic without a subscription drops published messages.
resource "google_pubsub_subscription" "dead_letters" {
  name                       = "${var.name}-dead-letters"
  topic                      = google_pubsub_topic.dead_letters.id
  ack_deadline_seconds       = 60
  message_retention_duration = "${var.dead_letter_retention_days * 86400}s"
  retain_acked_messages      = false

  expiration_policy {
    ttl = ""
  }
}
