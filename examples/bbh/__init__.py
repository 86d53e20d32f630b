"""Rows of BIG-Bench Hard with a real teacher's recorded answers. See README.md and LICENCE in this folder."""
