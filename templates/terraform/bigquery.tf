# Terraform makes the shipped tables, and owns their partition, cluster and expiry. Their columns, all views in this data
# set and the tables of metrics of one's own are the product's: it makes, widens and checks them at every start.
#
# Access is stated here and nowhere else. Without it BigQuery would let every viewer of the project read, and every editor
# write, also the records in quarantine. Of project roles only that of an owner opens the data set.

resource "google_bigquery_dataset" "warehouse" {
  dataset_id                 = var.dataset
  location                   = var.location
  description                = "Audience Insights: events and what was made of them. Its days are those of time zone ${var.time_zone}."
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

  # The views for readers may read what their readers may not.
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
    # A later version of the product, or a measure added to a metric, brings a column. Terraform would take it out
    # again, and what is in it.
    ignore_changes = [schema]
  }
}

# The table that tells who committed last, with its one row. Statements and labels are the product's own: a data set
# with these labels is taken for a whole warehouse, which has this table. BigQuery forgets a job after half a year, and
# Terraform then runs it again: a second time the statements do nothing.
resource "google_bigquery_job" "first_commit" {
  job_id   = "${var.name}-first-commit-${google_bigquery_dataset.warehouse.creation_time}"
  location = google_bigquery_dataset.warehouse.location

  query {
    query              = local.first_commit
    use_legacy_sql     = false
    create_disposition = "" # of a script
    write_disposition  = ""
  }

  lifecycle {
    ignore_changes = [query] # there is no second job under one id
  }
}

# Readers see the views of this data set and nothing of the warehouse. Each is written out down to the tables, so that
# none needs another one, and quarantine_by_code opens no way to the records themselves.
resource "google_bigquery_dataset" "readers" {
  dataset_id                 = var.readers_dataset
  location                   = var.location
  description                = "Views of ${var.dataset} for those who may not read its tables."
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
