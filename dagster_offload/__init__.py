"""Turn a folder of documents into typed records with a large language model that is only sometimes available."""

__version__ = "0.2.0"
