# The documentation of each alert comes with the notification: its meaning and the first three commands to type.

resource "google_monitoring_notification_channel" "email" {
  for_each     = var.notification_emails
  display_name = "${var.name}: ${each.key}"
  type         = "email"
  labels       = { email_address = each.key }
  depends_on   = [google_project_service.api]
}

locals {
  channels = concat([for channel in google_monitoring_notification_channel.email : channel.id], tolist(var.notification_channels))

  # The id of the job, for commands that do not accept a name.
  the_job = "$(gcloud dataflow jobs list --project=${var.project} --region=${var.region} --status=active --filter=name=${var.job_name} --format='value(id)')"
  errors  = "gcloud logging read 'resource.type=dataflow_step AND resource.labels.job_name=${var.job_name} AND severity>=ERROR' --project=${var.project} --freshness=1h --limit=20"
}

resource "google_monitoring_alert_policy" "backlog" {
  display_name          = "${var.name}: backlog too old"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "Oldest unacknowledged message is older than ${var.backlog_seconds} s"
    condition_threshold {
      filter          = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type=\"pubsub_subscription\" AND resource.label.subscription_id=\"${google_pubsub_subscription.events.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.backlog_seconds
      duration        = "300s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      The stream reads more slowly than publishers publish, or does not run. Nothing is lost while the oldest message is
      younger than ${var.message_retention_days} days.

      ```sh
      gcloud dataflow jobs list --project=${var.project} --region=${var.region} --status=active --filter=name=${var.job_name}
      ${local.errors}
      gcloud dataflow metrics list ${local.the_job} --project=${var.project} --region=${var.region}
      ```

      No job: launch it, it resumes with the backlog. Errors: fix these first. Neither: it needs more workers.
    EOT
  }
}

resource "google_monitoring_alert_policy" "watermark" {
  display_name          = "${var.name}: watermark lags"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "Watermark lag above ${var.watermark_seconds} s"
    condition_threshold {
      filter          = "metric.type=\"dataflow.googleapis.com/job/data_watermark_age\" AND resource.type=\"dataflow_job\" AND resource.label.job_name=\"${var.job_name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.watermark_seconds
      duration        = "300s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  conditions {
    display_name = "System lag above ${var.watermark_seconds} s"
    condition_threshold {
      filter          = "metric.type=\"dataflow.googleapis.com/job/system_lag\" AND resource.type=\"dataflow_job\" AND resource.label.job_name=\"${var.job_name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.watermark_seconds
      duration        = "300s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      Buckets close late: rows of `events` still arrive, but metrics stay at `early`. A step hangs or is retried repeatedly,
      or a publisher's clock is behind.

      ```sh
      ${local.errors}
      gcloud dataflow metrics list ${local.the_job} --project=${var.project} --region=${var.region} --source=user
      audience query --dataset ${var.project}.${var.dataset} "SELECT MAX(bucket_start) AS newest, firing FROM activity_1m_current GROUP BY firing"
      ```

      `write-retries` grows: BigQuery accepts no rows, check its status and quotas. No errors and no retries: find the step
      with the oldest watermark in the job's graph.
    EOT
  }
}

resource "google_monitoring_alert_policy" "quarantine" {
  display_name          = "${var.name}: too many records quarantined"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "More than ${var.quarantine_share * 100} % of the rows of ten minutes in quarantine"
    condition_prometheus_query_language {
      query               = "${local.quarantine_in} > ${var.quarantine_share}"
      duration            = "300s"
      evaluation_interval = "60s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      A publisher changed its format, or a mapping does not fit. Nothing is lost: quarantine has the bytes.

      ```sh
      audience query --dataset ${var.project}.${var.dataset} "SELECT * FROM quarantine_by_code ORDER BY last_received_time DESC LIMIT 20"
      audience query --dataset ${var.project}.${var.dataset} "SELECT code, errors, payload FROM quarantine_open ORDER BY received_time DESC LIMIT 5"
      audience replay --help
      ```

      Fix the publisher or the mapping; with the new mapping, `audience replay` processes the quarantined records.
    EOT
  }
}

resource "google_monitoring_alert_policy" "silence" {
  display_name          = "${var.name}: no input"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "No message for ${var.silent_minutes} minutes"
    condition_prometheus_query_language {
      query               = "(${local.published}) < 1"
      duration            = "0s"
      evaluation_interval = "60s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      Nothing was published to the topic ${google_pubsub_topic.events.name}. The cause is upstream: a publisher is down, lost its
      permission, or publishes elsewhere.

      ```sh
      gcloud pubsub topics describe ${google_pubsub_topic.events.name} --project=${var.project}
      gcloud pubsub topics get-iam-policy ${google_pubsub_topic.events.name} --project=${var.project}
      audience query --dataset ${var.project}.${var.dataset} "SELECT source, MAX(received_time) AS last FROM events WHERE event_time > TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 2 DAY) GROUP BY source"
      ```

      The third shows when each source sent its last event. If nights are silent, raise `silent_minutes`.
    EOT
  }
}

resource "google_logging_metric" "worker_errors" {
  name        = "${var.name}-worker-errors"
  description = "Errors logged by the workers of ${var.job_name}"
  filter      = "resource.type=\"dataflow_step\" AND resource.labels.job_name=\"${var.job_name}\" AND severity>=ERROR"
  depends_on  = [google_project_service.api]

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }
}

resource "google_monitoring_alert_policy" "worker_errors" {
  display_name          = "${var.name}: worker errors"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "More than ${var.errors_per_minute} errors per minute"
    condition_threshold {
      filter          = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.worker_errors.name}\" AND resource.type=\"dataflow_step\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.errors_per_minute
      duration        = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  conditions {
    display_name = "The job has failed"
    condition_threshold {
      filter          = "metric.type=\"dataflow.googleapis.com/job/is_failed\" AND resource.type=\"dataflow_job\" AND resource.label.job_name=\"${var.job_name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      A bundle fails and is retried without end, so its part of the stream makes no progress; or the job has ended.
      Unacknowledged messages wait in the subscription.

      ```sh
      ${local.errors}
      gcloud dataflow jobs list --project=${var.project} --region=${var.region} --filter=name=${var.job_name} --limit=3
      gcloud artifacts docker images list ${local.image} --include-tags --limit=5 --sort-by=~UPDATE_TIME
      ```

      The same error since a launch: roll back to the previous image. "BigQuery refused": columns differ, the message names them.
    EOT
  }
}

resource "google_monitoring_alert_policy" "dead_letters" {
  display_name          = "${var.name}: dead letters"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "A message in the dead-letter subscription"
    condition_threshold {
      filter          = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND resource.label.subscription_id=\"${google_pubsub_subscription.dead_letters.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = <<-EOT
      A message was delivered about ${coalesce(var.max_delivery_attempts, 100)} times and never acknowledged. It waits for 31 days,
      in no table and in no audit count.

      ```sh
      gcloud pubsub subscriptions pull ${google_pubsub_subscription.dead_letters.name} --project=${var.project} --limit=5 --format=json
      ${local.errors}
      gcloud pubsub subscriptions seek --help
      ```

      Pulled without --auto-ack, the message stays. Once the cause is fixed, publish it again to
      ${google_pubsub_topic.events.name}, or seek back: repeated messages count as duplicates.
    EOT
  }
}
