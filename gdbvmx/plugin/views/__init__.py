"""Text for what the target tells: no gdb here, and no questions to the target."""
