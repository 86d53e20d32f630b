"""How other systems call NesyCD."""
