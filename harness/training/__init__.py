"""What one training step, epoch and checkpoint take."""
