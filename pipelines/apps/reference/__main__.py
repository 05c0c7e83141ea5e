"""`python -m pipelines.apps.reference`: write the generated pages, schemas and tables."""

from pipelines.apps.reference.configuration import main

if __name__ == "__main__":
    main()
