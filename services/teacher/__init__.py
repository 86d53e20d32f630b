"""The proxy between the system and the teacher, a paid large language model."""
