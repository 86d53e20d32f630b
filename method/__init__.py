"""The method itself: prompts, answer reading, scoring and training mixtures. Pure Python, no input or output.

The student, extraction and jobs share it, so that what is trained on, served and scored cannot drift apart.
"""
