"""Films in, trailers out. Knows no Prefect and no command line."""

__version__ = "0.1.0"
