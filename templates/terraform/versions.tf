# The infrastructure of a stream and its backfills in one project. docs/why/terraform.md says what it owns and what not.
#
#   terraform init -backend-config=bucket=STATE_BUCKET
#   terraform apply -var=project=my-project -var=region=europe-west1 -var=location=EU
#
# `init` writes .terraform.lock.hcl with the checksums of the provider: commit it where you keep your variables.

terraform {
  required_version = ">= 1.9, < 2.0" # 1.9: a validation may look at locals

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "= 6.50.0" # that whose attributes these files were held against
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
