"""`python -m pipelines.reference`: write the generated pages, schemas and tables."""

from pipelines.reference.configuration import main as write_configuration
from pipelines.reference.metric_pages import main as write_metric_pages

if __name__ == "__main__":
    write_configuration()
    write_metric_pages()
