resource "google_project_service" "api" {
  for_each           = local.apis
  service            = each.key
  disable_on_destroy = false # others in the project may use it
}

data "google_project" "this" {
  depends_on = [google_project_service.api]
}

resource "google_pubsub_topic" "events" {
  name                       = "${var.name}-events"
  message_retention_duration = "${var.message_retention_days * 86400}s" # a subscription may go back so far (seek)
  kms_key_name               = var.kms_key
  depends_on                 = [google_project_service.api]
}

resource "google_pubsub_topic" "dead_letters" {
  name         = "${var.name}-dead-letters" # it keeps nothing itself: its subscription does
  kms_key_name = var.kms_key
  depends_on   = [google_project_service.api]
}

resource "google_pubsub_subscription" "events" {
  name                       = "${var.name}-events"
  topic                      = google_pubsub_topic.events.id
  ack_deadline_seconds       = 60
  message_retention_duration = "${var.message_retention_days * 86400}s"
  retain_acked_messages      = false # the topic keeps them

  expiration_policy {
    ttl = "" # never, also where no stream has read it for a month
  }

  # A record that breaks a rule is acknowledged and lies in quarantine. What comes here was given back again and again: it
  # ends workers, or they were ended often. A reader gives back what it has in hand as a whole, so that fewer attempts than
  # the most would put good messages here with a bad one. Google supports neither policy where Dataflow reads: null
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

# A topic without a subscription drops what is published.
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
