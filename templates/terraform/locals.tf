# Values derived from the variables and from tables.json without a request to Google: `terraform console` shows them offline.

locals {
  dataset = "${var.project}.${var.dataset}"
  image   = "${var.region}-docker.pkg.dev/${var.project}/${var.name}/audience"

  # Made by python -m pipelines.reference from what the product declares; see docs/why/terraform.md.
  declared = jsondecode(file("${path.module}/tables.json"))
  tables   = { for table in local.declared.tables : table.name => table }

  names = {
    "{{project}}"   = var.project
    "{{dataset}}"   = var.dataset
    "{{time_zone}}" = var.time_zone
  }
  all_views = { for view in local.declared.views : view.name => merge(view, { sql = replace(replace(replace(replace(
    view.sql,
    "{{project}}", local.names["{{project}}"]),
    "{{dataset}}", local.names["{{dataset}}"]),
    "{{time_zone}}", local.names["{{time_zone}}"]),
    "{{minimum_group}}", var.minimum_group)
  }) }
  views = { for name, view in local.all_views : name => view if contains(var.reader_views, name) }
  first_commit = replace(replace(
    join("\n", [for statement in local.declared.first_commit : "${statement};"]),
    "{{project}}", local.names["{{project}}"]),
    "{{dataset}}", local.names["{{dataset}}"]
  )

  # The labels by which the product recognises its dataset. Labels allow no capital letter, slash or plus.
  labels = merge(local.declared.labels, {
    audience_time_zone = replace(replace(lower(var.time_zone), "/", "__"), "+", "_plus_")
  })

  # Members (group:x@example.com) in the form of BigQuery access entries.
  entries = { for member in setunion(var.readers, var.warehouse_readers) : member => {
    user   = can(regex("^(user|serviceAccount):", member)) ? split(":", member)[1] : null
    group  = startswith(member, "group:") ? split(":", member)[1] : null
    domain = startswith(member, "domain:") ? split(":", member)[1] : null
  } }
  readers           = { for member in var.readers : member => local.entries[member] }
  warehouse_readers = { for member in var.warehouse_readers : member => local.entries[member] }

  # One refresh or none, and what its launch states that needs no resource.
  refreshes     = { for refresh in var.refresh[*] : "scheduled" => refresh }
  refresh_tag   = try(split("@", var.refresh.build)[0], "")
  refresh_image = try("${local.image}@${split("@", var.refresh.build)[1]}", "${local.image}:${local.refresh_tag}")
  refresh_launch = {
    jobName              = "${var.name}-refresh"
    containerSpecGcsPath = "gs://${var.project}-${var.name}-templates/templates/${local.refresh_tag}.json"
    parameters = { for name, value in {
      refresh             = "true"
      dataset             = local.dataset
      config              = try(var.refresh.config, null)
      sdk_container_image = local.refresh_image
    } : name => value if value != null }
  }
  refresh_environment = { for name, value in {
    maxWorkers      = try(var.refresh.max_workers, null)
    machineType     = try(var.refresh.machine_type, null)
    subnetwork      = try(var.refresh.subnetwork, null)
    ipConfiguration = try(var.refresh.subnetwork, null) == null ? null : "WORKER_IP_PRIVATE"
    kmsKeyName      = var.kms_key
  } : name => value if value != null }

  apis = toset(concat(var.refresh == null ? [] : ["cloudscheduler.googleapis.com"], [
    "artifactregistry.googleapis.com",
    "bigquery.googleapis.com",
    "bigquerystorage.googleapis.com",
    "cloudbuild.googleapis.com",
    "compute.googleapis.com",
    "dataflow.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "storage.googleapis.com",
  ]))

  # Rows that the stream wrote in ten minutes, from the counter of the writing steps. The counter is a gauge of a
  # job's total, so `delta` computes the increase.
  rows_written  = "dataflow_googleapis_com:job_user_counter{monitored_resource=\"dataflow_job\",job_name=\"${var.job_name}\",metric_name=\"rows-written\",ptransform=~\"%s\"}"
  quarantined   = "sum(delta(${format(local.rows_written, "Write quarantine.*")}[10m]))"
  either        = "sum(delta(${format(local.rows_written, "Write (events|quarantine).*")}[10m]))"
  quarantine_in = "${local.quarantined} / (${local.either} > 0)"

  # Without messages there is no data point, not a zero.
  published = "sum(increase(pubsub_googleapis_com:topic_send_request_count{monitored_resource=\"pubsub_topic\",topic_id=\"${var.name}-events\",response_class=\"success\"}[${var.silent_minutes}m])) or vector(0)"
}
