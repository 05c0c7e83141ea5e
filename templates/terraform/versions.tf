# The infrastructure of a stream and its backfills in one project. docs/why/terraform.md states what it owns.
#
#   terraform init -backend-config=bucket=STATE_BUCKET
#   terraform apply -var=project=my-project -var=region=europe-west1 -var=location=EU
#
# `init` writes .terraform.lock.hcl with the checksums of the provider: commit it where you keep your variables.

terraform {
  required_version = ">= 1.9, < 2.0" # 1.9: a validation may refer to locals

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "= 6.50.0" # the version whose attributes these files were compared with
    }
  }

  backend "gcs" {
    prefix = "audience"
  }
}

provider "google" {
  project = var.project
  region  = var.region
}
