resource "google_monitoring_dashboard" "stream" {
  dashboard_json = templatefile("${path.module}/dashboard.json.tftpl", {
    name          = var.name
    job           = "resource.type=\"dataflow_job\" AND resource.label.job_name=\"${var.job_name}\""
    events        = "resource.type=\"pubsub_subscription\" AND resource.label.subscription_id=\"${var.name}-events\""
    dead_letters  = "resource.type=\"pubsub_subscription\" AND resource.label.subscription_id=\"${var.name}-dead-letters\""
    topic         = "resource.type=\"pubsub_topic\" AND resource.label.topic_id=\"${var.name}-events\""
    worker_errors = "resource.type=\"dataflow_step\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.worker_errors.name}\""
    quarantine    = local.quarantine_in
    written       = "sum by (ptransform) (delta(${format(local.rows_written, ".*")}[1m]))"
    thresholds    = { backlog = var.backlog_seconds, watermark = var.watermark_seconds, quarantine = var.quarantine_share }
  })
}
