"""What every server shares: start-up and drain, settings, exceptions to statuses, logs, metrics, channels, page tokens."""
