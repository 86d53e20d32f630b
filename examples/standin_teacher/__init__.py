"""A stand-in for a teacher LLM, for the demo and the tests. Not part of the product: see README.md in this folder."""
