"""pytest integration of tornpage."""
