# Terraform creates the shipped tables, and owns their partitioning, clustering and expiration. The product owns their
# columns, all views in this dataset and the tables of custom metrics: it creates, widens and checks them at every start.
#
# Access is stated here and nowhere else. Without it BigQuery would let every viewer of the project read, and every editor
# write, also the records in quarantine. Of the project roles only owner grants access to the dataset.

resource "google_bigquery_dataset" "warehouse" {
  dataset_id                 = var.dataset
  location                   = var.location
  description                = "Audience Insights: events and metrics. Days are those of the time zone ${var.time_zone}."
  labels                     = local.labels
  delete_contents_on_destroy = false
  depends_on                 = [google_project_service.api]

  access {
    role          = "OWNER"
    special_group = "projectOwners"
  }

  access {
    role          = "WRITER"
    user_by_email = google_service_account.worker.email
  }

  dynamic "access" {
    for_each = local.warehouse_readers
    content {
      role           = "READER"
      user_by_email  = access.value.user
      group_by_email = access.value.group
      domain         = access.value.domain
    }
  }

  # The views for readers may read what the readers may not.
  access {
    dataset {
      dataset {
        project_id = var.project
        dataset_id = google_bigquery_dataset.readers.dataset_id
      }
      target_types = ["VIEWS"]
    }
  }

  dynamic "default_encryption_configuration" {
    for_each = var.warehouse_kms_key[*]
    content {
      kms_key_name = default_encryption_configuration.value
    }
  }
}

resource "google_bigquery_table" "warehouse" {
  for_each            = local.tables
  dataset_id          = google_bigquery_dataset.warehouse.dataset_id
  table_id            = each.key
  description         = each.value.description
  schema              = jsonencode(each.value.schema)
  clustering          = length(each.value.cluster) > 0 ? each.value.cluster : null
  deletion_protection = var.deletion_protection

  time_partitioning {
    type          = "DAY"
    field         = each.value.partition
    expiration_ms = var.partition_expiration_days == null ? null : var.partition_expiration_days * 86400000
  }

  lifecycle {
    # A later version of the product, or a measure added to a metric, adds a column. Terraform would drop it again,
    # with its content.
    ignore_changes = [schema]
  }
}

# The table with one row that records the last commit. Statements and labels are the product's own: a dataset with
# these labels counts as a complete warehouse, which has this table. BigQuery forgets a job after half a year, and
# Terraform then runs it again: the statements are idempotent.
resource "google_bigquery_job" "first_commit" {
  job_id   = "${var.name}-first-commit-${google_bigquery_dataset.warehouse.creation_time}"
  location = google_bigquery_dataset.warehouse.location

  query {
    query              = local.first_commit
    use_legacy_sql     = false
    create_disposition = "" # required for a script
    write_disposition  = ""
  }

  lifecycle {
    ignore_changes = [query] # a job id cannot be reused
  }
}

# Readers see the views of this dataset and nothing of the warehouse. Each view is expanded down to the tables, so none
# needs another one, and quarantine_by_code gives no access to the records themselves.
resource "google_bigquery_dataset" "readers" {
  dataset_id                 = var.readers_dataset
  location                   = var.location
  description                = "Views of ${var.dataset} for readers without access to its tables."
  delete_contents_on_destroy = false
  depends_on                 = [google_project_service.api]

  access {
    role          = "OWNER"
    special_group = "projectOwners"
  }

  dynamic "access" {
    for_each = local.readers
    content {
      role           = "READER"
      user_by_email  = access.value.user
      group_by_email = access.value.group
      domain         = access.value.domain
    }
  }

  dynamic "default_encryption_configuration" {
    for_each = var.warehouse_kms_key[*]
    content {
      kms_key_name = default_encryption_configuration.value
    }
  }
}

resource "google_bigquery_table" "readers" {
  for_each            = local.views
  dataset_id          = google_bigquery_dataset.readers.dataset_id
  table_id            = each.key
  description         = each.value.description
  deletion_protection = false # it holds nothing

  view {
    query          = each.value.sql
    use_legacy_sql = false
  }

  depends_on = [google_bigquery_table.warehouse]
}
