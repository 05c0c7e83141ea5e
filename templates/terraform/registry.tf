resource "google_artifact_registry_repository" "images" {
  repository_id = var.name
  location      = var.region
  format        = "DOCKER"
  description   = "Images of launcher and workers, one per commit"
  kms_key_name  = var.kms_key

  # If both policies match, keep wins. An image in use has to stay, since every worker pulls it when it starts: tag the
  # image of the stream live-NAME.
  cleanup_policy_dry_run = false

  cleanup_policies {
    id     = "remove the old"
    action = "DELETE"
    condition {
      older_than = "${var.image_days * 86400}s"
    }
  }

  cleanup_policies {
    id     = "keep the last ten"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }

  cleanup_policies {
    id     = "keep what runs"
    action = "KEEP"
    condition {
      tag_state    = "TAGGED"
      tag_prefixes = ["live"]
    }
  }

  depends_on = [google_project_service.api]
}
