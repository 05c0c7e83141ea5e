variable "project" {
  description = "Existing project with billing, in which everything is created"
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower case letters, digits and hyphens, such as my-project."
  }
}

variable "region" {
  description = "Region of the workers, the images and the buckets"
  type        = string
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]{1,2}$", var.region))
    error_message = "A region looks like europe-west1."
  }
}

variable "location" {
  description = "Location of the datasets; it cannot be changed later"
  type        = string
  validation {
    condition     = can(regex("^(EU|US|[a-z]+-[a-z]+[0-9]{1,2})$", var.location))
    error_message = "EU, US, or a region such as europe-west1."
  }
}

variable "name" {
  description = "Prefix of every resource name in the project: two warehouses need two prefixes"
  type        = string
  default     = "audience"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,18}[a-z0-9]$", var.name))
    error_message = "4 to 20 lower case letters, digits and hyphens, such as audience."
  }
}

variable "dataset" {
  description = "Dataset of the warehouse"
  type        = string
  default     = "audience"
  validation {
    condition     = can(regex("^[A-Za-z0-9_]+$", var.dataset))
    error_message = "Letters, digits and underscores, such as audience."
  }
}

variable "readers_dataset" {
  description = "Dataset of the authorised views: their readers need no access to the warehouse"
  type        = string
  default     = "audience_views"
  validation {
    condition     = can(regex("^[A-Za-z0-9_]+$", var.readers_dataset)) && var.readers_dataset != var.dataset
    error_message = "Letters, digits and underscores, such as audience_views, and another name than that of the warehouse."
  }
}

variable "time_zone" {
  description = "Time zone of the warehouse's days (IANA name); it cannot be changed later"
  type        = string
  default     = "UTC"
  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$", var.time_zone))
    error_message = "A name of the IANA time zone database, such as Europe/London."
  }
}

variable "partition_expiration_days" {
  description = "Days after which BigQuery removes the rows of a day; null keeps them. If set, leave --partition_expiration out"
  type        = number
  default     = null
  validation {
    condition     = var.partition_expiration_days == null ? true : var.partition_expiration_days >= 1 && floor(var.partition_expiration_days) == var.partition_expiration_days
    error_message = "A whole number from 1, or null."
  }
}

variable "reader_views" {
  description = "Views that readers get. The default leaves out those with a person or a record in a row, such as events_unique, user_days_current, sessions_current and rfm_segments"
  type        = set(string)
  default = [
    "activity_1m_current",
    "activity_by_day",
    "campaign_1h_current",
    "attribution_by_day",
    "content_1h_current",
    "content_leaderboard",
    "conversion_by_campaign",
    "conversion_by_channel",
    "conversion_by_country",
    "engagement_by_channel",
    "engagement_by_content",
    "engagement_by_day",
    "engagement_by_device",
    "funnel_by_day",
    "lifecycle_by_day",
    "live_now",
    "quality_1m_current",
    "quality_summary",
    "quarantine_by_code",
    "retention_by_channel",
    "retention_by_day",
    "retention_by_week",
    "revenue_by_day",
  ]
  validation {
    condition     = alltrue([for name in var.reader_views : contains(keys(local.all_views), name)])
    error_message = "Allowed are the views of tables.json."
  }
}

variable "minimum_group" {
  description = "Readers' views leave out rows about fewer people than this, and numbers of fewer people in other rows; 0 leaves out nothing"
  type        = number
  default     = 10
  validation {
    condition     = floor(var.minimum_group) == var.minimum_group && var.minimum_group >= 0 && var.minimum_group <= 1000
    error_message = "A whole number from 0 to 1000."
  }
}

variable "readers" {
  description = "Who may read the views, such as group:analysts@example.com; they need a project of their own to run queries in"
  type        = set(string)
  default     = []
  validation {
    condition     = alltrue([for member in var.readers : can(regex("^(user|group|serviceAccount|domain):[^\\s]+$", member))])
    error_message = "user:, group:, serviceAccount: or domain: and a name. allUsers and allAuthenticatedUsers are refused."
  }
}

variable "warehouse_readers" {
  description = "Who may read the tables themselves, including people and quarantined records, such as group:data@example.com"
  type        = set(string)
  default     = []
  validation {
    condition     = alltrue([for member in var.warehouse_readers : can(regex("^(user|group|serviceAccount|domain):[^\\s]+$", member))])
    error_message = "user:, group:, serviceAccount: or domain: and a name. allUsers and allAuthenticatedUsers are refused."
  }
}

variable "kms_key" {
  description = "CMEK: Cloud KMS key, in the region, of topics, buckets, images and the streaming job; null: Google-managed keys. The service agents of Pub/Sub, Storage, Artifact Registry, Dataflow and Compute Engine need roles/cloudkms.cryptoKeyEncrypterDecrypter on it first"
  type        = string
  default     = null
  validation {
    condition     = var.kms_key == null ? true : can(regex("^projects/[^/]+/locations/${var.region}/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY without a version, in the region of the workers; or null."
  }
}

variable "warehouse_kms_key" {
  description = "CMEK: Cloud KMS key of the datasets, in their location (EU: europe, US: us); null: Google-managed keys. BigQuery's service agent needs roles/cloudkms.cryptoKeyEncrypterDecrypter on it first"
  type        = string
  default     = null
  validation {
    condition     = var.warehouse_kms_key == null ? true : can(regex("^projects/[^/]+/locations/${lookup({ EU = "europe", US = "us" }, var.location, var.location)}/keyRings/[^/]+/cryptoKeys/[^/]+$", var.warehouse_kms_key))
    error_message = "projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY without a version, in the location of the datasets; or null."
  }
}

variable "publishers" {
  description = "Who may publish to the topic, such as serviceAccount:web@my-project.iam.gserviceaccount.com"
  type        = set(string)
  default     = []
  validation {
    condition     = alltrue([for member in var.publishers : can(regex("^(user|group|serviceAccount):[^\\s]+$", member))])
    error_message = "user:, group: or serviceAccount: and a name. allUsers and allAuthenticatedUsers are refused."
  }
}

variable "launchers" {
  description = "Who may build and launch as the launcher's service account, such as group:data@example.com"
  type        = set(string)
  default     = []
  validation {
    condition     = alltrue([for member in var.launchers : can(regex("^(user|group|serviceAccount):[^\\s]+$", member))])
    error_message = "user:, group: or serviceAccount: and a name. allUsers and allAuthenticatedUsers are refused."
  }
}

variable "job_name" {
  description = "Name of the streaming job that the alerts watch"
  type        = string
  default     = "audience-stream"
  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", var.job_name))
    error_message = "Lower case letters, digits and hyphens, such as audience-stream."
  }
}

variable "refresh" {
  description = "Scheduled refresh on Dataflow; null: none. `schedule` is a crontab line in time_zone, `build` the TAG or TAG@sha256:... of audience deploy build, `config` a file in gs:// that the workers' account may read; a `subnetwork` means private addresses"
  type = object({
    schedule     = string
    build        = string
    config       = optional(string)
    max_workers  = optional(number, 2)
    machine_type = optional(string)
    subnetwork   = optional(string)
  })
  default = null
  validation {
    condition     = var.refresh == null ? true : can(regex("^[0-9*,/-]+( [0-9A-Za-z*,/-]+){4}$", var.refresh.schedule))
    error_message = "schedule: five fields of a crontab, such as \"*/30 * * * *\"."
  }
  validation {
    condition     = var.refresh == null ? true : can(regex("^[A-Za-z0-9_.-]{1,128}(@sha256:[0-9a-f]{64})?$", var.refresh.build)) && split("@", var.refresh.build)[0] != "latest"
    error_message = "build: the tag of a build (not latest), preferably with its digest: TAG@sha256:..."
  }
  validation {
    condition     = try(var.refresh.config, null) == null ? true : can(regex("^gs://[^/]+/.+$", var.refresh.config))
    error_message = "config: a file in a bucket, such as gs://my-bucket/audience.yaml."
  }
  validation {
    condition     = try(var.refresh.max_workers, null) == null ? true : floor(var.refresh.max_workers) == var.refresh.max_workers && var.refresh.max_workers >= 1 && var.refresh.max_workers <= 100
    error_message = "max_workers: a whole number from 1 to 100."
  }
}

variable "message_retention_days" {
  description = "Days that the subscriptions retain an unread message"
  type        = number
  default     = 7
  validation {
    condition     = floor(var.message_retention_days) == var.message_retention_days && var.message_retention_days >= 1 && var.message_retention_days <= 31
    error_message = "A whole number from 1 to 31, as Pub/Sub allows."
  }
}

variable "dead_letter_retention_days" {
  description = "Days that a dead letter is kept, with any personal data in it; audience person does not reach it"
  type        = number
  default     = 31
  validation {
    condition     = floor(var.dead_letter_retention_days) == var.dead_letter_retention_days && var.dead_letter_retention_days >= 1 && var.dead_letter_retention_days <= 31
    error_message = "A whole number from 1 to 31, as Pub/Sub allows for a subscription."
  }
}

variable "max_delivery_attempts" {
  description = "Deliveries after which a message goes to the dead-letter topic; null: never, and it is redelivered at once"
  type        = number
  default     = 100
  validation {
    condition     = var.max_delivery_attempts == null ? true : floor(var.max_delivery_attempts) == var.max_delivery_attempts && var.max_delivery_attempts >= 5 && var.max_delivery_attempts <= 100
    error_message = "A whole number from 5 to 100, as Pub/Sub allows, or null."
  }
}

variable "temp_days" {
  description = "Days that temporary files are kept; must be longer than any backfill takes"
  type        = number
  default     = 14
  validation {
    condition     = floor(var.temp_days) == var.temp_days && var.temp_days >= 1 && var.temp_days <= 365
    error_message = "A whole number from 1 to 365."
  }
}

variable "image_days" {
  description = "Days after which an image is deleted, unless it is among the last ten or has a tag that begins with live"
  type        = number
  default     = 180
  validation {
    condition     = floor(var.image_days) == var.image_days && var.image_days >= 7 && var.image_days <= 3650
    error_message = "A whole number from 7 to 3650."
  }
}

variable "deletion_protection" {
  description = "Whether `terraform destroy` stops at tables and buckets that are not empty"
  type        = bool
  default     = true
}

variable "notification_emails" {
  description = "Email addresses that receive the alerts"
  type        = set(string)
  default     = []
  validation {
    condition     = alltrue([for address in var.notification_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "Addresses such as oncall@example.com."
  }
}

variable "notification_channels" {
  description = "Other Cloud Monitoring notification channels for the alerts"
  type        = set(string)
  default     = []
  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", channel))])
    error_message = "Names such as projects/my-project/notificationChannels/1234."
  }
}

variable "backlog_seconds" {
  description = "Alert if the oldest unacknowledged message is older than this"
  type        = number
  default     = 300
  validation {
    condition     = var.backlog_seconds >= 60
    error_message = "At least 60 seconds."
  }
}

variable "watermark_seconds" {
  description = "Alert if the watermark lags the clock by more than this; --expected_delay is part of the lag"
  type        = number
  default     = 600
  validation {
    condition     = var.watermark_seconds >= 60
    error_message = "At least 60 seconds."
  }
}

variable "quarantine_share" {
  description = "Alert if a larger share than this of the rows of ten minutes is quarantined"
  type        = number
  default     = 0.05
  validation {
    condition     = var.quarantine_share > 0 && var.quarantine_share < 1
    error_message = "Between 0 and 1, such as 0.05."
  }
}

variable "silent_minutes" {
  description = "Alert if nothing was published for this long"
  type        = number
  default     = 30
  validation {
    condition     = floor(var.silent_minutes) == var.silent_minutes && var.silent_minutes >= 5 && var.silent_minutes <= 1440
    error_message = "A whole number from 5 to 1440."
  }
}

variable "errors_per_minute" {
  description = "Alert if the workers log more errors per minute than this, for five minutes"
  type        = number
  default     = 1
  validation {
    condition     = var.errors_per_minute >= 0
    error_message = "0 or more."
  }
}
