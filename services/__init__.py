"""The five services of NesyCD; each is started with ``python -m services.<name>``."""
