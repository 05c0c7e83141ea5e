# Each role is granted on the one resource that needs it; on the project only roles that Google grants nowhere else.

resource "google_service_account" "worker" {
  account_id   = "${var.name}-worker"
  display_name = "Audience Insights: workers of Dataflow"
  depends_on   = [google_project_service.api]
}

resource "google_service_account" "launcher" {
  account_id   = "${var.name}-launcher"
  display_name = "Audience Insights: builds images and launches jobs"
  depends_on   = [google_project_service.api]
}

locals {
  worker   = "serviceAccount:${google_service_account.worker.email}"
  launcher = "serviceAccount:${google_service_account.launcher.email}"
  pubsub   = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"

  on_project = {
    "worker runs steps"          = { member = local.worker, role = "roles/dataflow.worker" }
    "worker runs statements"     = { member = local.worker, role = "roles/bigquery.jobUser" }
    "launcher starts jobs"       = { member = local.launcher, role = "roles/dataflow.developer" }
    "launcher starts builds"     = { member = local.launcher, role = "roles/cloudbuild.builds.editor" }
    "launcher writes build logs" = { member = local.launcher, role = "roles/logging.logWriter" }
  }
  on_images = {
    "worker"   = { member = local.worker, role = "roles/artifactregistry.reader" }
    "launcher" = { member = local.launcher, role = "roles/artifactregistry.writer" }
  }
  on_buckets = {
    "worker temp"        = { bucket = google_storage_bucket.temp.name, member = local.worker, role = "roles/storage.objectUser" }
    "worker staging"     = { bucket = google_storage_bucket.staging.name, member = local.worker, role = "roles/storage.objectUser" }
    "worker templates"   = { bucket = google_storage_bucket.templates.name, member = local.worker, role = "roles/storage.objectViewer" }
    "launcher temp"      = { bucket = google_storage_bucket.temp.name, member = local.launcher, role = "roles/storage.objectUser" }
    "launcher staging"   = { bucket = google_storage_bucket.staging.name, member = local.launcher, role = "roles/storage.objectUser" }
    "launcher templates" = { bucket = google_storage_bucket.templates.name, member = local.launcher, role = "roles/storage.objectUser" }
  }
}

resource "google_project_iam_member" "on_project" {
  for_each = local.on_project
  project  = var.project
  member   = each.value.member
  role     = each.value.role
}

resource "google_storage_bucket_iam_member" "on_buckets" {
  for_each = local.on_buckets
  bucket   = each.value.bucket
  member   = each.value.member
  role     = each.value.role
}

resource "google_pubsub_topic_iam_member" "publishers" {
  for_each = var.publishers
  topic    = google_pubsub_topic.events.id
  member   = each.key
  role     = "roles/pubsub.publisher"
}

resource "google_pubsub_subscription_iam_member" "worker" {
  for_each     = toset(["roles/pubsub.subscriber", "roles/pubsub.viewer"]) # viewer: a start checks the subscription first
  subscription = google_pubsub_subscription.events.id
  member       = local.worker
  role         = each.key
}

# Pub/Sub's service agent moves dead letters: it publishes them to the topic and acknowledges them here.
resource "google_pubsub_topic_iam_member" "dead_letters" {
  topic  = google_pubsub_topic.dead_letters.id
  member = local.pubsub
  role   = "roles/pubsub.publisher"
}

resource "google_pubsub_subscription_iam_member" "dead_letters" {
  subscription = google_pubsub_subscription.events.id
  member       = local.pubsub
  role         = "roles/pubsub.subscriber"
}

resource "google_artifact_registry_repository_iam_member" "images" {
  for_each   = local.on_images
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  member     = each.value.member
  role       = each.value.role
}

# A job runs as the worker, a build as the launcher: whoever starts one must be allowed to act as that account.
resource "google_service_account_iam_member" "launcher" {
  for_each           = { "as the worker" = google_service_account.worker.name, "as itself" = google_service_account.launcher.name }
  service_account_id = each.value
  member             = local.launcher
  role               = "roles/iam.serviceAccountUser"
}

resource "google_service_account_iam_member" "launchers" {
  for_each           = var.launchers
  service_account_id = google_service_account.launcher.name
  member             = each.key
  role               = "roles/iam.serviceAccountTokenCreator"
}
