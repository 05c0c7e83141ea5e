# With `refresh`, Cloud Scheduler launches the template as a batch job that computes answers as of the newest closed bucket.
#
# The job has one name, and Dataflow runs no two jobs of a name at once: a start while the last refresh still runs fails,
# and the next one follows. Nothing is retried: the next start does the same.

resource "google_service_account" "scheduler" {
  for_each     = local.refreshes
  account_id   = "${var.name}-scheduler"
  display_name = "Audience Insights: launches refreshes, and nothing else"
  depends_on   = [google_project_service.api]
}

# The least of Google's roles that may start a job, the file of the template, and the account that the job runs as. It
# reaches no data: what the job may read and write is the worker's.
resource "google_project_iam_member" "scheduler" {
  for_each = local.refreshes
  project  = var.project
  member   = "serviceAccount:${google_service_account.scheduler[each.key].email}"
  role     = "roles/dataflow.developer"
}

resource "google_storage_bucket_iam_member" "scheduler" {
  for_each = local.refreshes
  bucket   = google_storage_bucket.templates.name
  member   = "serviceAccount:${google_service_account.scheduler[each.key].email}"
  role     = "roles/storage.objectViewer"
}

resource "google_service_account_iam_member" "scheduler" {
  for_each           = local.refreshes
  service_account_id = google_service_account.worker.name
  member             = "serviceAccount:${google_service_account.scheduler[each.key].email}"
  role               = "roles/iam.serviceAccountUser"
}

resource "google_cloud_scheduler_job" "refresh" {
  for_each         = local.refreshes
  name             = "${var.name}-refresh"
  description      = "Computes the answers of ${var.dataset} as of the newest closed bucket"
  region           = var.region
  schedule         = each.value.schedule
  time_zone        = var.time_zone
  attempt_deadline = "180s"

  retry_config {
    retry_count = 0
  }

  http_target {
    http_method = "POST"
    uri         = "https://dataflow.googleapis.com/v1b3/projects/${var.project}/locations/${var.region}/flexTemplates:launch"
    headers     = { "Content-Type" = "application/json" }
    body = base64encode(jsonencode({ launchParameter = merge(local.refresh_launch, {
      environment = merge(local.refresh_environment, {
        tempLocation        = "gs://${google_storage_bucket.temp.name}/temp"
        stagingLocation     = "gs://${google_storage_bucket.staging.name}/staging"
        serviceAccountEmail = google_service_account.worker.email
      })
    }) }))

    oauth_token {
      service_account_email = google_service_account.scheduler[each.key].email
      scope                 = "https://www.googleapis.com/auth/cloud-platform"
    }
  }

  depends_on = [
    google_bigquery_job.first_commit,
    google_project_iam_member.scheduler,
    google_service_account_iam_member.scheduler,
    google_storage_bucket_iam_member.scheduler,
  ]
}
