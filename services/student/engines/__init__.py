"""Engines: what turns prompts into text. `base.py` says what one must do; one file an engine."""
