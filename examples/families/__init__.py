"""The example: three families of questions whose answers need facts that a 135M model does not know."""
