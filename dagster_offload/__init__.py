"""Turn a folder of documents into typed records with a big language model that is only sometimes there."""

__version__ = "0.1.0"
