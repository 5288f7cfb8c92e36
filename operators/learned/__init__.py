"""What the learned parts share: devices, weight files and one training loop."""
