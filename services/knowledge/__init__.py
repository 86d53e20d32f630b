"""The knowledge store: what the student is given to read, and people correct."""
