"""Example data, the student model of the examples, and a stand-in teacher. Not part of the product."""
