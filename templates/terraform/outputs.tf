# Named after the options of `audience run` and gcloud that accept them.

output "project" {
  description = "Project"
  value       = var.project
}

output "region" {
  description = "Region of the jobs"
  value       = var.region
}

output "job_name" {
  description = "Name of the streaming job that the alerts watch"
  value       = var.job_name
}

output "topic" {
  description = "Topic that events are published to"
  value       = google_pubsub_topic.events.id
}

output "input_subscription" {
  description = "Subscription that the stream reads"
  value       = google_pubsub_subscription.events.id
}

output "dead_letter_subscription" {
  description = "Subscription of the dead-letter topic"
  value       = google_pubsub_subscription.dead_letters.id
}

output "dataset" {
  description = "Dataset of the warehouse"
  value       = local.dataset
  depends_on  = [google_bigquery_job.first_commit, google_bigquery_table.warehouse]
}

output "readers_dataset" {
  description = "Dataset of the views for readers"
  value       = "${var.project}.${google_bigquery_dataset.readers.dataset_id}"
}

output "temp_location" {
  description = "Folder for temporary files of a job"
  value       = "gs://${google_storage_bucket.temp.name}/temp"
}

output "staging_location" {
  description = "Folder for staged files, which workers fetch at start"
  value       = "gs://${google_storage_bucket.staging.name}/staging"
}

output "templates_location" {
  description = "Folder of template specifications"
  value       = "gs://${google_storage_bucket.templates.name}/templates"
}

output "source_staging_location" {
  description = "Folder from which Cloud Build reads the source: --gcs-source-staging-dir"
  value       = "gs://${google_storage_bucket.templates.name}/source"
}

output "image" {
  description = "Name of the image, without tag"
  value       = local.image
}

output "service_account_email" {
  description = "Service account that the workers run as"
  value       = google_service_account.worker.email
}

output "launcher_service_account_email" {
  description = "Service account that builds and launches: gcloud --impersonate-service-account"
  value       = google_service_account.launcher.email
}

output "run_locally" {
  description = "Command that runs the stream on this machine"
  value       = "audience run --input_subscription ${google_pubsub_subscription.events.id} --dataset ${local.dataset}"
}

output "run_on_dataflow" {
  description = "Command that runs the stream on Dataflow; TAG is the tag of the build"
  value = join(" ", [
    "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT=${google_service_account.launcher.email}",
    "audience deploy stream --project ${var.project} --region ${var.region} --job_name ${var.job_name}",
    "--temp_location gs://${google_storage_bucket.temp.name}/temp",
    "--staging_location gs://${google_storage_bucket.staging.name}/staging",
    "--templates_location gs://${google_storage_bucket.templates.name}/templates",
    "--image ${local.image}:TAG",
    "--service_account_email ${google_service_account.worker.email}",
    join("", [for key in var.kms_key[*] : "--dataflow_kms_key ${key}"]),
    "--input_subscription ${google_pubsub_subscription.events.id} --dataset ${local.dataset}",
  ])
}
