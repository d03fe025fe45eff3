"""The demonstration: it runs the product on sample documents with a stand-in router, and explains each step."""
